#include "server/report/http.h"

#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include <httplib.h>

namespace tenure::server {
namespace {

// Enough for a scraper and a person at the same time. More would only let more of them read the
// registry at once.
constexpr size_t kThreads = 2;

}  // namespace

struct HttpServer::Parts {
  httplib::Server server;
  int port = 0;
  std::thread thread;
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(
    absl::string_view address, std::function<std::string()> metrics) {
  const size_t colon = address.rfind(':');
  int port = -1;
  if (colon == absl::string_view::npos || !absl::SimpleAtoi(address.substr(colon + 1), &port) ||
      port < 0 || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", address, "' is not ADDRESS:PORT, such as 127.0.0.1:9450"));
  }
  absl::string_view host = address.substr(0, colon);
  if (absl::ConsumePrefix(&host, "[")) absl::ConsumeSuffix(&host, "]");

  auto parts = std::make_unique<Parts>();
  parts->server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  parts->server.set_read_timeout(5);
  parts->server.set_write_timeout(5);
  // No request to this server has a body.
  parts->server.set_payload_max_length(0);
  // Only SO_REUSEADDR. The library's default, SO_REUSEPORT, would let two daemons share the port,
  // and a scraper would get the metrics of either.
  parts->server.set_socket_options([](socket_t socket) {
    const int on = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  });
  parts->server.Get("/metrics", [metrics = std::move(metrics)](const httplib::Request&,
                                                               httplib::Response& response) {
    response.set_content(metrics(), "text/plain; version=0.0.4; charset=utf-8");
  });
  const std::string host_name(host);
  if (port == 0) {
    port = parts->server.bind_to_any_port(host_name);
    if (port < 0) port = 0;
  } else if (!parts->server.bind_to_port(host_name, port)) {
    port = 0;
  }
  if (port == 0) {
    return absl::AlreadyExistsError(
        absl::StrCat("cannot listen on ", address,
                     " for /metrics; choose another --http ADDRESS:PORT, or --http off"));
  }
  parts->port = port;
  parts->thread = std::thread([server = &parts->server] { server->listen_after_bind(); });
  // The library's stop() does nothing before the thread listens, and the thread would then run for
  // ever. So this function returns only when the server can be stopped.
  while (!parts->server.is_running()) std::this_thread::yield();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(parts)));
}

HttpServer::HttpServer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

HttpServer::~HttpServer() {
  parts_->server.stop();
  parts_->thread.join();
}

int HttpServer::port() const { return parts_->port; }

}  // namespace tenure::server

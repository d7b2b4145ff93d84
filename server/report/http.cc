#include "server/report/http.h"

#include <chrono>
#include <list>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>

#include "common/status_macros.h"

namespace tenure::server {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;
using SteadyClock = std::chrono::steady_clock;

// From the accept to the last byte of the answer. A scraper needs milliseconds.
constexpr std::chrono::seconds kConnectionTime{5};
constexpr size_t kMaxConnections = 64;
// A request of a scraper has a few hundred bytes.
constexpr size_t kMaxRequestBytes = 8192;
// How old the text of /metrics may be. A scraper asks every few seconds.
constexpr std::chrono::milliseconds kMaxAge{100};
// The pause after a failed accept, which is usually one without a free descriptor.
constexpr std::chrono::milliseconds kAcceptPause{100};

using Request = http::request<http::empty_body>;
using Response = http::response<http::string_body>;

// Finds the answer to a request.
//
// Thread safety: thread-confined.
class Site {
 public:
  explicit Site(HttpServer::Pages pages) : pages_(std::move(pages)) {}

  Response Answer(const Request& request) {
    const bool reads = request.method() == http::verb::get || request.method() == http::verb::head;
    if (!reads) return Text(http::status::method_not_allowed, "only GET and HEAD are answered\n");
    const auto target = request.target();
    const absl::string_view path(target.data(), target.substr(0, target.find('?')).size());
    if (path == "/metrics") {
      Response response = Text(http::status::ok, Metrics());
      response.set(http::field::content_type, "text/plain; version=0.0.4; charset=utf-8");
      return response;
    }
    if (path == "/healthz") {
      const absl::Status health = pages_.health();
      if (health.ok()) return Text(http::status::ok, "SERVING\n");
      return Text(http::status::service_unavailable,
                  absl::StrCat("NOT_SERVING: ", health.message(), "\n"));
    }
    return Text(http::status::not_found, "there are /metrics and /healthz\n");
  }

 private:
  static Response Text(http::status status, std::string text) {
    Response response(status, 11);
    response.set(http::field::content_type, "text/plain; charset=utf-8");
    response.body() = std::move(text);
    return response;
  }

  const std::string& Metrics() {
    const SteadyClock::time_point now = SteadyClock::now();
    if (!made_ || now - *made_ > kMaxAge) {
      metrics_ = pages_.metrics();
      made_ = now;
    }
    return metrics_;
  }

  const HttpServer::Pages pages_;
  std::string metrics_;
  std::optional<SteadyClock::time_point> made_;
};

// One request and its answer. It keeps itself alive until then.
//
// Thread safety: thread-confined.
class Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  Exchange(tcp::socket socket, Site& site) : stream_(std::move(socket)), site_(site) {
    parser_.header_limit(kMaxRequestBytes);
    parser_.body_limit(0);
  }

  void Start() {
    // Once, for the reading and the writing together: later operations do not extend it.
    stream_.expires_after(kConnectionTime);
    http::async_read(stream_, buffer_, parser_,
                     [self = shared_from_this()](ErrorCode error, size_t) {
                       if (!error) self->Answer();
                     });
  }
  void Close() { stream_.close(); }

 private:
  void Answer() {
    response_ = site_.Answer(parser_.get());
    response_.keep_alive(false);
    response_.prepare_payload();
    if (parser_.get().method() == http::verb::head) response_.body().clear();
    http::async_write(stream_, response_, [self = shared_from_this()](ErrorCode, size_t) {
      ErrorCode ignored;
      self->stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    });
  }

  beast::tcp_stream stream_;
  Site& site_;
  beast::flat_buffer buffer_{kMaxRequestBytes};
  http::request_parser<http::empty_body> parser_;
  Response response_;
};

// Accepts on one address.
//
// Thread safety: thread-confined.
class Door {
 public:
  using OnAccept = std::function<void(tcp::socket)>;

  explicit Door(asio::io_context& context) : acceptor_(context), pause_(context) {}

  ErrorCode Bind(const tcp::endpoint& at) {
    ErrorCode error;
    acceptor_.open(at.protocol(), error);
    // A socket of all IPv6 addresses takes IPv4 as well.
    if (!error && at.protocol() == tcp::v6())
      acceptor_.set_option(asio::ip::v6_only(!at.address().is_unspecified()), error);
    // Not SO_REUSEPORT, with which two daemons would share the port.
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(at, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    return error;
  }

  void Accept(const OnAccept& on_accept) {
    acceptor_.async_accept([this, &on_accept](ErrorCode error, tcp::socket socket) {
      if (!error) {
        on_accept(std::move(socket));
        Accept(on_accept);
        return;
      }
      pause_.expires_after(kAcceptPause);
      pause_.async_wait([this, &on_accept](ErrorCode) { Accept(on_accept); });
    });
  }

  int port() const { return acceptor_.local_endpoint().port(); }

 private:
  tcp::acceptor acceptor_;
  asio::steady_timer pause_;
};

// The parts of ADDRESS:PORT.
struct HostAndPort {
  std::string host;
  int port = 0;
};

absl::StatusOr<HostAndPort> Split(absl::string_view address) {
  const size_t colon = address.rfind(':');
  int port = -1;
  if (colon == absl::string_view::npos || !absl::SimpleAtoi(address.substr(colon + 1), &port) ||
      port < 0 || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", address, "' is not ADDRESS:PORT, such as 127.0.0.1:9450"));
  }
  absl::string_view host = address.substr(0, colon);
  if (absl::ConsumePrefix(&host, "[")) absl::ConsumeSuffix(&host, "]");
  return HostAndPort{std::string(host), port};
}

absl::StatusOr<std::vector<tcp::endpoint>> Resolve(asio::io_context& context,
                                                   absl::string_view address) {
  TENURE_ASSIGN_OR_RETURN(const HostAndPort wanted, Split(address));
  const auto& [host, port] = wanted;
  const auto number = static_cast<unsigned short>(port);
  // The address of IPv6 serves IPv4 too; a host without IPv6 cannot open it.
  if (host.empty()) return std::vector<tcp::endpoint>{{tcp::v6(), number}, {tcp::v4(), number}};
  ErrorCode error;
  std::vector<tcp::endpoint> found;
  for (const auto& entry : tcp::resolver(context).resolve(host, absl::StrCat(port), error)) {
    found.push_back(entry.endpoint());
  }
  if (error) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", host, "' in --http ", address, " is no address: ", error.message()));
  }
  return found;
}

}  // namespace

struct HttpServer::Parts {
  explicit Parts(Pages pages) : site(std::move(pages)) {}

  absl::Status Bind(absl::string_view address);
  void Add(tcp::socket socket);

  asio::io_context context{1};
  Site site;
  // A list, because a door stays where it is.
  std::list<Door> doors;
  const Door::OnAccept on_accept = [this](tcp::socket socket) { Add(std::move(socket)); };
  // Oldest first.
  std::list<std::weak_ptr<Exchange>> open;
  int port = 0;
  std::thread thread;
};

absl::Status HttpServer::Parts::Bind(absl::string_view address) {
  TENURE_ASSIGN_OR_RETURN(const std::vector<tcp::endpoint> endpoints, Resolve(context, address));
  ErrorCode error;
  for (tcp::endpoint endpoint : endpoints) {
    // The first takes any free port, if that is asked for, and the others take the same one.
    if (endpoint.port() == 0) endpoint.port(static_cast<unsigned short>(port));
    Door& door = doors.emplace_back(context);
    error = door.Bind(endpoint);
    if (error) {
      doors.pop_back();
      if (error == asio::error::address_in_use) break;
      continue;
    }
    port = door.port();
    error.clear();
    if (endpoint.address().is_unspecified()) break;
  }
  if (!doors.empty() && error != asio::error::address_in_use) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrCat("cannot listen on ", address, " for /metrics: ", error.message(),
                   "; choose another --http ADDRESS:PORT, or --http off"));
}

void HttpServer::Parts::Add(tcp::socket socket) {
  open.remove_if([](const std::weak_ptr<Exchange>& exchange) { return exchange.expired(); });
  if (open.size() == kMaxConnections) {
    if (const std::shared_ptr<Exchange> oldest = open.front().lock()) oldest->Close();
    open.pop_front();
  }
  const auto exchange = std::make_shared<Exchange>(std::move(socket), site);
  open.push_back(exchange);
  exchange->Start();
}

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(absl::string_view address,
                                                              Pages pages) {
  auto parts = std::make_unique<Parts>(std::move(pages));
  TENURE_RETURN_IF_ERROR(parts->Bind(address));
  for (Door& door : parts->doors) door.Accept(parts->on_accept);
  parts->thread = std::thread([context = &parts->context] { context->run(); });
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(parts)));
}

absl::Status HttpServer::CheckAddress(absl::string_view address) { return Split(address).status(); }

HttpServer::HttpServer(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

HttpServer::~HttpServer() {
  parts_->context.stop();
  parts_->thread.join();
}

int HttpServer::port() const { return parts_->port; }

}  // namespace tenure::server

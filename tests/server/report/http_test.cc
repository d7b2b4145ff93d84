#include "server/report/http.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include "common/check.h"
#include "common/unique_fd.h"

namespace tenure::server {
namespace {

// A server on a free port, and clients of it.
class HttpTest : public ::testing::Test {
 protected:
  std::unique_ptr<HttpServer> Serve(const std::string& address) {
    absl::StatusOr<std::unique_ptr<HttpServer>> server = HttpServer::Start(
        address, {.metrics = [this] { return "made " + std::to_string(++made_) + " times\n"; },
                  .health = [this] { return health_; }});
    TENURE_CHECK(server.ok());
    return *std::move(server);
  }

  // A connection that has sent these bytes.
  static UniqueFd Connect(int port, const std::string& bytes) {
    UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    TENURE_CHECK(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    TENURE_CHECK(send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
                 static_cast<ssize_t>(bytes.size()));
    return fd;
  }

  // Whether the server has ended the connection.
  static bool IsEnded(int fd) {
    pollfd ready = {fd, POLLIN, 0};
    char byte = 0;
    return poll(&ready, 1, 0) == 1 && recv(fd, &byte, 1, MSG_DONTWAIT) <= 0;
  }

  std::atomic<int> made_ = 0;
  absl::Status health_;
};

TEST_F(HttpTest, EachPathHasItsAnswer) {
  const auto server = Serve("127.0.0.1:0");
  httplib::Client client("127.0.0.1", server->port());
  const httplib::Result metrics = client.Get("/metrics?name[]=tenure_sessions");
  ASSERT_TRUE(metrics);
  EXPECT_EQ(metrics->status, 200);
  EXPECT_EQ(metrics->body, "made 1 times\n");
  EXPECT_EQ(metrics->get_header_value("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_EQ(client.Get("/metricsx")->status, 404);
  EXPECT_EQ(client.Head("/healthz")->status, 200);
  EXPECT_EQ(client.Post("/metrics", "", "text/plain")->status, 405);
}

TEST_F(HttpTest, HealthTellsTheReason) {
  const auto server = Serve("127.0.0.1:0");
  httplib::Client client("127.0.0.1", server->port());
  EXPECT_EQ(client.Get("/healthz")->body, "SERVING\n");
  health_ = absl::UnavailableError("draining");
  const httplib::Result answer = client.Get("/healthz");
  EXPECT_EQ(answer->status, 503);
  EXPECT_EQ(answer->body, "NOT_SERVING: draining\n");
}

TEST_F(HttpTest, SilentConnectionsDelayNobodyAndEnd) {
  const auto server = Serve("127.0.0.1:0");
  std::vector<UniqueFd> silent;
  // More than the server keeps open at once, half of them in the middle of a request.
  for (int i = 0; i < 200; ++i)
    silent.push_back(Connect(server->port(), i % 2 == 0 ? "" : "GET /metrics HTTP/1.1\r\nHost"));
  httplib::Client client("127.0.0.1", server->port());
  // Below the time after which the server ends silent connections, so that it is not what helps.
  client.set_read_timeout(2);
  const httplib::Result answer = client.Get("/metrics");
  ASSERT_TRUE(answer) << "no answer beside silent connections";
  EXPECT_EQ(answer->status, 200);
  // The oldest made room at once.
  EXPECT_TRUE(IsEnded(silent.front().get()));
  EXPECT_FALSE(IsEnded(silent.back().get()));
}

TEST_F(HttpTest, AConnectionThatTricklesEndsAllTheSame) {
  const auto server = Serve("127.0.0.1:0");
  const UniqueFd slow = Connect(server->port(), "GET /metrics HTTP/1.1\r\nX: ");
  // One byte at a time, each well within any limit on silence, until the server ends it.
  for (int sent = 0; !IsEnded(slow.get()); ++sent) {
    ASSERT_LT(sent, 600) << "the connection has lasted for a minute";
    send(slow.get(), "x", 1, MSG_NOSIGNAL);
    pollfd ended = {slow.get(), POLLIN, 0};
    poll(&ended, 1, 100);
  }
}

TEST_F(HttpTest, ManyScrapersShareOneText) {
  const auto server = Serve("127.0.0.1:0");
  std::vector<UniqueFd> scrapers;
  for (int i = 0; i < 50; ++i)
    scrapers.push_back(Connect(server->port(), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"));
  for (const UniqueFd& scraper : scrapers) {
    char answer[4096];
    EXPECT_GT(recv(scraper.get(), answer, sizeof answer, 0), 0);
  }
  EXPECT_LT(made_, 50);
}

TEST_F(HttpTest, AnAddressWithoutAHostIsAllAddresses) {
  const auto server = Serve(":0");
  EXPECT_TRUE(httplib::Client("127.0.0.1", server->port()).Get("/healthz"));
  // The address of loopback can be bound only on a host with IPv6.
  sockaddr_in6 loopback = {};
  loopback.sin6_family = AF_INET6;
  loopback.sin6_addr = in6addr_loopback;
  const UniqueFd probe(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (bind(probe.get(), reinterpret_cast<sockaddr*>(&loopback), sizeof loopback) == 0) {
    EXPECT_TRUE(httplib::Client("::1", server->port()).Get("/healthz"));
  }
}

TEST_F(HttpTest, AHostNameIsServedOnEachOfItsAddresses) {
  const auto server = Serve("localhost:0");
  EXPECT_TRUE(httplib::Client("127.0.0.1", server->port()).Get("/healthz"));
}

TEST_F(HttpTest, AnAddressThatCannotServeIsRefusedWithWords) {
  const auto code = [](const std::string& address) {
    return HttpServer::Start(address, {}).status().code();
  };
  for (const char* address : {"9450", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1",
                              "no.such.host.invalid:9450", "127.0.0.1:9450x"}) {
    EXPECT_EQ(code(address), absl::StatusCode::kInvalidArgument) << address;
  }
  const auto server = Serve("127.0.0.1:0");
  EXPECT_EQ(code("127.0.0.1:" + std::to_string(server->port())), absl::StatusCode::kAlreadyExists);
}

TEST_F(HttpTest, TheServerEndsWhileConnectionsAreOpen) {
  auto server = Serve("127.0.0.1:0");
  const UniqueFd silent = Connect(server->port(), "GET ");
  server.reset();
  char byte = 0;
  EXPECT_LE(recv(silent.get(), &byte, 1, 0), 0);
}

}  // namespace
}  // namespace tenure::server

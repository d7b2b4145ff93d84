// Serves /metrics and /healthz over HTTP.
#ifndef SERVER_REPORT_HTTP_H_
#define SERVER_REPORT_HTTP_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tenure::server {

// Answers GET /metrics and GET /healthz on a thread of its own, which waits for no client.
//
// Invariants:
// 1. A connection ends after its answer, and five seconds after its beginning at the latest,
//    however slowly its bytes come.
// 2. At most 64 connections are open. A new one ends the oldest, so that a scraper that sends its
//    request at once is answered however many others keep silent.
// 3. The text of /metrics is made at most ten times a second, however many scrapers ask.
//
// Owns: the listening sockets and the thread.
// Thread safety: thread-confined; the pages are called on the server's thread.
class HttpServer {
 public:
  struct Pages {
    // The text of /metrics.
    std::function<std::string()> metrics;
    // /healthz answers 200 if OK; otherwise 503 and the message.
    std::function<absl::Status()> health;
  };

  // `address`: "127.0.0.1:9450", "[::1]:9450", a host name and a port, or ":9450" for all addresses
  // of the host. Port 0 takes any free port.
  // Errors: INVALID_ARGUMENT: the address has another form, or names no address of this host.
  // ALREADY_EXISTS: it cannot be bound.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(absl::string_view address, Pages pages);
  // Whether an address has the form above. Looks up no name.
  // Errors: INVALID_ARGUMENT: it has another form.
  static absl::Status CheckAddress(absl::string_view address);
  // Ends the connections, also those that wait for their answer.
  ~HttpServer();

  int port() const;

 private:
  struct Parts;
  explicit HttpServer(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace tenure::server

#endif  // SERVER_REPORT_HTTP_H_

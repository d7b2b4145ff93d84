// Serves GET /metrics over HTTP.
#ifndef SERVER_REPORT_HTTP_H_
#define SERVER_REPORT_HTTP_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tenure::server {

// Answers GET /metrics with the text of a function, on threads of its own.
//
// Owns: the listening socket and its threads.
// Thread safety: thread-confined; `metrics` is called on several of the server's threads at once.
class HttpServer {
 public:
  // `address`: "127.0.0.1:9450" or "[::1]:9450". Port 0 takes any free port.
  // Errors: INVALID_ARGUMENT: the address has another form. ALREADY_EXISTS: it cannot be bound.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(absl::string_view address,
                                                           std::function<std::string()> metrics);
  // Returns when the last answer is sent.
  ~HttpServer();

  int port() const;

 private:
  struct Parts;
  explicit HttpServer(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace tenure::server

#endif  // SERVER_REPORT_HTTP_H_

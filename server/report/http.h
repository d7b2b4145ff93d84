// The daemon's page for machines: GET /metrics.
#ifndef SERVER_REPORT_HTTP_H_
#define SERVER_REPORT_HTTP_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tenure::server {

// Serves text over HTTP on a thread of its own.
//
// Owns: the listening socket and its threads.
// Thread safety: thread-confined; `metrics` is called on any thread.
class HttpServer {
 public:
  // `address`: "127.0.0.1:9450" or "[::1]:9450"; port 0 takes any free one. Errors:
  // INVALID_ARGUMENT: not of this form. ALREADY_EXISTS: the address cannot be bound.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(absl::string_view address,
                                                           std::function<std::string()> metrics);
  // Stops serving.
  ~HttpServer();

  int port() const;

 private:
  struct Parts;
  explicit HttpServer(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace tenure::server

#endif  // SERVER_REPORT_HTTP_H_

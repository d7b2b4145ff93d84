// The address at which the daemon serves HTTP, also while another program has it.
#ifndef SERVER_REPORT_HTTP_ENDPOINT_H_
#define SERVER_REPORT_HTTP_ENDPOINT_H_

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

#include "common/clock.h"
#include "server/report/http.h"

namespace tenure::server {

// Serves the pages as soon as their address can be had. An address that is taken, or a name that
// cannot be resolved, is no reason not to lease memory: it is tried again each second, and the log
// and the statistics say so.
//
// Owns: the HTTP server. Borrows: the clock.
// Thread safety: state() is thread-safe; the rest is thread-confined.
class HttpEndpoint {
 public:
  // Where the pages are served or are to be served, as in "127.0.0.1:9450"; empty if nowhere. What
  // prevents it at present; empty while they are served.
  struct State {
    std::string address;
    std::string trouble;
  };

  // `address` is one that CheckHttpAddress accepts, or "off".
  HttpEndpoint(std::string address, HttpServer::Pages pages, const Clock& clock);

  // Tries, if the pages are not served yet and the last try was a second ago.
  void Maintain();
  // Ends the server, and with it the use of the pages.
  void Stop() { server_.reset(); }
  State state() const;

 private:
  void Try();

  const std::string address_;
  const HttpServer::Pages pages_;
  const Clock& clock_;
  BootTime next_try_;
  std::unique_ptr<HttpServer> server_;

  mutable absl::Mutex mu_;
  State state_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tenure::server

#endif  // SERVER_REPORT_HTTP_ENDPOINT_H_

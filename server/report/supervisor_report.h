// Tells the supervisor that the daemon is well.
#ifndef SERVER_REPORT_SUPERVISOR_REPORT_H_
#define SERVER_REPORT_SUPERVISOR_REPORT_H_

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace tenure::server {

// Sends the supervisor a line about the daemon every few seconds (STATUS=), and that it is well
// (WATCHDOG=1), if the supervisor waits for that. It is well while the driver answers: a driver
// that hangs leaves a daemon that looks alive and grants nothing, and only a new process helps.
//
// Owns: a thread, which asks the driver and so may hang with it.
// Thread safety: thread-confined; `describe` is called on the report's thread.
// Source: sd_notify(3), sd_watchdog_enabled(3).
class SupervisorReport {
 public:
  // `describe` asks the driver, and returns the line. After an error nothing is sent for it.
  explicit SupervisorReport(std::function<absl::StatusOr<std::string>()> describe);
  // Waits for an answer of the driver that is under way.
  ~SupervisorReport();

 private:
  void Run();

  const std::function<absl::StatusOr<std::string>()> describe_;
  // Of std, because absl's timed waits follow the wall clock.
  std::mutex mu_;
  std::condition_variable stop_;
  bool stopping_ = false;  // guarded by mu_
  std::thread thread_;
};

}  // namespace tenure::server

#endif  // SERVER_REPORT_SUPERVISOR_REPORT_H_

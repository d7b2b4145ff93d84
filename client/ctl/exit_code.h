// The exit codes of tenurectl, which scripts rely on.
#ifndef CLIENT_CTL_EXIT_CODE_H_
#define CLIENT_CTL_EXIT_CODE_H_

#include "absl/status/status.h"

namespace tenure::ctl {

enum ExitCode : int {
  kOk = 0,
  kFailure = 1,
  kUsage = 2,
  kNoDaemon = 3,
  kUnreachable = 4,
  kNotFound = 5,
  kNotPermitted = 6,
};

// The step in which an error occurred: NOT_FOUND of the socket and NOT_FOUND of a session id have
// different exit codes.
enum class Stage { kConnecting, kCalling };

ExitCode ExitCodeOf(const absl::Status& status, Stage stage);

// Prints "tenurectl: message" to stderr. Returns the exit code.
ExitCode Fail(const absl::Status& status, Stage stage);

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_EXIT_CODE_H_

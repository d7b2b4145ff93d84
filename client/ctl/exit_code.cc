#include "client/ctl/exit_code.h"

#include <cstdio>
#include <string>

#include "client/ctl/text.h"

namespace tenure::ctl {

ExitCode ExitCodeOf(const absl::Status& status, Stage stage) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kOk;
    case absl::StatusCode::kNotFound:
      return stage == Stage::kConnecting ? kNoDaemon : kNotFound;
    // A deadline counts as unreachable: a daemon that does not answer is no better than none.
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return kUnreachable;
    case absl::StatusCode::kPermissionDenied:
      return kNotPermitted;
    // Also an argument that only the daemon could check, such as a segment's name.
    case absl::StatusCode::kInvalidArgument:
      return kUsage;
    default:
      return kFailure;
  }
}

ExitCode Fail(const absl::Status& status, Stage stage) {
  // A message may hold a name that another program chose.
  std::fprintf(stderr, "tenurectl: %s\n", Printable(status.message()).c_str());
  return ExitCodeOf(status, stage);
}

}  // namespace tenure::ctl

#include "client/ctl/replay/replay_progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "client/ctl/text.h"

namespace tenure::ctl {

ReplayProgress::ReplayProgress(uint64_t expected, bool silent)
    : expected_(expected),
      silent_(silent),
      terminal_(isatty(STDERR_FILENO) == 1),
      began_(SystemClock().Now()),
      due_(began_ + (terminal_ ? absl::ZeroDuration() : absl::Seconds(1))) {}

ReplayProgress::~ReplayProgress() {
  // Back to the first column and erase to the end of the line: the bar leaves no trace.
  if (shown_ && terminal_) std::fputs("\r\x1b[K", stderr);
}

std::string ReplayProgress::Line(uint64_t operations, size_t running) const {
  const double seconds = std::max(absl::ToDoubleSeconds(SystemClock().Now() - began_), 0.001);
  std::string line;
  if (expected_ > 0) {
    const Bytes done(std::min(operations, expected_));
    absl::StrAppend(&line, "[", Bar(done, Bytes(expected_), 30), "] ",
                    Percent(done, Bytes(expected_)), "  ");
  }
  absl::StrAppend(&line, operations, " operations, ",
                  absl::StrFormat("%.0f/s, ", static_cast<double>(operations) / seconds), running,
                  " workers");
  return line;
}

void ReplayProgress::Show(uint64_t operations, size_t running) {
  const BootTime now = SystemClock().Now();
  if (silent_ || now < due_) return;
  due_ = now + (terminal_ ? absl::Milliseconds(100) : absl::Seconds(1));
  const std::string line = Line(operations, running);
  std::fprintf(stderr, terminal_ ? "\r%s\x1b[K" : "%s\n", line.c_str());
  shown_ = true;
}

}  // namespace tenure::ctl

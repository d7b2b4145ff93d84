// The progress display of a replay on stderr.
#ifndef CLIENT_CTL_REPLAY_REPLAY_PROGRESS_H_
#define CLIENT_CTL_REPLAY_REPLAY_PROGRESS_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"

#include "common/clock.h"

namespace tenure::ctl {

// Shows how many operations are done: a bar that moves on a terminal, else one line a second.
//
// Thread safety: thread-compatible.
class ReplayProgress {
 public:
  // `expected` operations in all; 0 when the trace does not say.
  ReplayProgress(uint64_t expected, bool silent);
  ~ReplayProgress();

  // Prints unless the last line is too recent. `running` workers have done `operations` so far.
  void Show(uint64_t operations, size_t running);

 private:
  std::string Line(uint64_t operations, size_t running) const;

  const uint64_t expected_;
  const bool silent_;
  const bool terminal_;
  const BootTime began_;
  BootTime due_;
  bool shown_ = false;
};

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_REPLAY_REPLAY_PROGRESS_H_

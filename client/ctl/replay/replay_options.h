// The options of a replay: the command line of `tenurectl replay` and of its workers.
#ifndef CLIENT_CTL_REPLAY_REPLAY_OPTIONS_H_
#define CLIENT_CTL_REPLAY_REPLAY_OPTIONS_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace tenure::ctl {

struct ReplayOptions {
  std::string socket;
  std::string trace;
  uint64_t workers = 1;
  uint64_t repeat = 1;
  // Operations of a worker between two checks of the daemon's books.
  uint64_t check_every = 1000;
  bool map = true;
  // How long a worker holds the blocks that the trace leaves allocated, before it ends.
  absl::Duration hold_at_end;
  // A killed worker is reported and does not make the replay fail.
  bool allow_deaths = false;
  bool json = false;
};

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_REPLAY_REPLAY_OPTIONS_H_

// The outcome of one worker of a replay: a result, an error that it reported, or a death.
#ifndef CLIENT_CTL_REPLAY_WORKER_OUTCOME_H_
#define CLIENT_CTL_REPLAY_WORKER_OUTCOME_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "client/ctl/replay/worker_result.h"

namespace tenure::ctl {

struct WorkerOutcome {
  pid_t pid = 0;
  uint64_t operations = 0;  // as last reported
  std::optional<WorkerResult> result;
  std::string error;
  std::string death;
};

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_REPLAY_WORKER_OUTCOME_H_

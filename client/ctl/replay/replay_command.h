// `tenurectl replay`: replays a recorded trace through the daemon in several worker processes.
#ifndef CLIENT_CTL_REPLAY_REPLAY_COMMAND_H_
#define CLIENT_CTL_REPLAY_REPLAY_COMMAND_H_

#include "client/ctl/exit_code.h"
#include "client/ctl/replay/replay_options.h"

namespace tenure::ctl {

// The parent: starts the workers, shows their progress, prints the sum of their results.
// kFailure: a worker met an error, or died without `allow_deaths`.
ExitCode RunReplay(const ReplayOptions& options);

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_REPLAY_REPLAY_COMMAND_H_

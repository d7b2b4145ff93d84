// One worker of a replay, in a process of its own.
#ifndef CLIENT_CTL_REPLAY_REPLAY_WORKER_H_
#define CLIENT_CTL_REPLAY_REPLAY_WORKER_H_

#include <cstddef>

#include "client/ctl/exit_code.h"
#include "client/ctl/replay/replay_options.h"

namespace tenure::ctl {

// Replays the trace in a session of its own and writes JSON lines to stdout for the parent:
// {"operations": N} as it proceeds, then {"result": ...} or {"error": "..."}.
// `live_bytes_fd` is the descriptor of the parent's SharedLiveBytes.
ExitCode RunReplayWorker(const ReplayOptions& options, size_t worker, int live_bytes_fd);

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_REPLAY_REPLAY_WORKER_H_

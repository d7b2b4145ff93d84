// How a process asks: what Connect and Allocate may be told.
#ifndef CLIENT_OPTIONS_H_
#define CLIENT_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

#include "common/bytes.h"
#include "common/memory_kind.h"

namespace tenure {

struct ConnectOptions {
  // The daemon's socket; empty: $TENURE_SOCKET, else where a daemon of this host or user listens by
  // default.
  std::string socket = "";
  // Shown by `tenurectl ps`; at most 64 bytes of printable UTF-8. Empty: the program's name.
  std::string name = "";
  // The longest that any call takes, all its attempts together.
  absl::Duration call_timeout = absl::Seconds(10);
  // "cuda", "emulated" or a path; empty: $TENURE_DRIVER, else the driver that the daemon uses.
  std::string driver = "";
  // False: this process maps nothing, opens no CUDA context and its buffers have no pointer. For
  // tools that only look at the daemon or load it.
  bool map = true;
  // The kind of every block that AllocateOptions gives none; nullopt: what the daemon grants by
  // default, which is CUDA_IPC, or VMM_FD under --isolation strict.
  std::optional<MemoryKind> memory_kind = std::nullopt;
  // Called at most once, from a thread of the client's, when the session is lost: every later call
  // fails, memory that is mapped stays readable and writable until its buffer is destroyed. Must
  // not destroy the last handle of the session.
  std::function<void(absl::Status)> on_lost = nullptr;
  // Where a supervisor keeps it, memory of kind VMM_FD outlives the daemon's process, and so does a
  // session that uses it: while the daemon is away for at most this long, calls wait, and the next
  // daemon goes on.
  absl::Duration restart_window = absl::Seconds(30);
  // Called, from a thread of the client's, each time when that has happened. `lost_blocks` of kind
  // CUDA_IPC did not outlive it: they stay mapped, nobody else can map them any more, and giving
  // one back is ABORTED. Must not destroy the last handle of the session.
  std::function<void(uint64_t lost_blocks)> on_restart = nullptr;
};

enum class Placement {
  kDefault,  // small blocks from the session's pools, larger ones as a region of their own
  kPool,     // INVALID_ARGUMENT if the block is too large for the pools
  kDirect,   // a region of its own
};

struct AllocateOptions {
  // A power of two up to 2 MiB; zero means 256 bytes.
  Bytes alignment = Bytes(0);
  Placement placement = Placement::kDefault;
  // nullopt: as the connection's options say.
  std::optional<MemoryKind> memory_kind = std::nullopt;
};

}  // namespace tenure

#endif  // CLIENT_OPTIONS_H_

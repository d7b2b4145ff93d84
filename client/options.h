// The options of Connect and Allocate.
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
  // The path of the daemon's socket. Empty: $TENURE_SOCKET if set, else the default path of a
  // daemon of this host or user.
  std::string socket = "";
  // A name for `tenurectl ps`: at most 64 bytes (kMaxSessionName) of printable UTF-8. Empty: the
  // name of the program.
  std::string name = "";
  // The time limit of a call, over all its attempts.
  absl::Duration call_timeout = absl::Seconds(10);
  // The uid of the daemon's user, if it is neither root, nor the user of this process, nor the
  // owner of the socket's folder. nullopt: $TENURE_DAEMON_UID if set, else only those are trusted.
  std::optional<uint32_t> daemon_uid = std::nullopt;
  // "cuda", "emulated" or the path of a driver library. Empty: $TENURE_DRIVER if set, else the
  // driver that the daemon uses.
  std::string driver = "";
  // False: this process opens no CUDA context and maps nothing, and its buffers have no pointer.
  // For tools that only query the daemon or put load on it.
  bool map = true;
  // The memory kind of each block for which AllocateOptions names none. nullopt: the daemon's
  // default, which is CUDA_IPC, or VMM_FD under --isolation strict.
  std::optional<MemoryKind> memory_kind = std::nullopt;
  // Called at most once, on a thread of the client, when the session is lost. Every later call
  // fails. Mapped memory stays readable and writable until its buffer is destroyed. Must not
  // destroy the last handle of the session.
  std::function<void(absl::Status)> on_lost = nullptr;
  // How long a session waits for the next daemon. Under a supervisor, memory of kind VMM_FD
  // survives the daemon's process, and so does a session that uses it: the next daemon restores the
  // session. If none answers within this time, the session is lost. Meanwhile each call waits for
  // at most call_timeout, and may then be repeated.
  absl::Duration restart_window = absl::Seconds(30);
  // Called on a thread of the client each time the next daemon has restored the session.
  // `lost_blocks` is the number of blocks of kind CUDA_IPC, which do not survive: they stay mapped
  // here, no other process can map them, and freeing one is ABORTED. Must not destroy the last
  // handle of the session.
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
  // nullopt: ConnectOptions::memory_kind.
  std::optional<MemoryKind> memory_kind = std::nullopt;
};

}  // namespace tenure

#endif  // CLIENT_OPTIONS_H_

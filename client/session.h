#ifndef CLIENT_SESSION_H_
#define CLIENT_SESSION_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "client/connection.h"
#include "client/daemon_watch.h"
#include "client/options.h"
#include "client/region_cache.h"
#include "client/upkeep.h"
#include "common/bytes.h"
#include "common/cuda/device.h"

namespace tenure {

// A block as this process holds it.
struct Grant {
  uint64_t allocation_id = 0;
  uint64_t region_id = 0;
  Bytes size;                       // as granted
  cuda::DevicePointer pointer = 0;  // 0 in a process that maps nothing
  bool own_region = false;          // no other block can be in its region
};

// Everything that a process has of one daemon: the session's calls, the device, the regions mapped
// on it and the upkeep of them. Client and DeviceBuffer are handles to it; the last of them ends
// it.
//
// Invariants: 1. no region outlives the session's end: all are unmapped before the daemon is told;
// 2. in a forked child nothing of this is touched, not even by destruction.
// Owns: all of its parts.
// Thread safety: thread-safe.
// Errors: those of Connection; those of cuda::Device for mapping.
class Session {
 public:
  // Errors: as Client::Connect.
  static absl::StatusOr<std::shared_ptr<Session>> Open(const ConnectOptions& options);
  // Waits for the daemon's answer to the end of the session for at most a second.
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  absl::StatusOr<Grant> Allocate(Bytes size, const AllocateOptions& options);
  absl::StatusOr<std::vector<Grant>> AllocateBatch(absl::Span<const Bytes> sizes);
  // Gives a block back and waits for the answer. The grant is used up, whatever the answer is.
  absl::Status Release(const Grant& grant);
  // Gives a block back some time soon. Waits for no RPC; makes a driver call if the block was the
  // last of a region of its own.
  void Discard(const Grant& grant);
  absl::Status Flush();

  const Connection& connection() const { return *connection_; }
  bool maps() const { return device_ != nullptr; }
  // Null in a process that maps nothing.
  cuda::Device* device() const { return device_.get(); }

 private:
  explicit Session(std::unique_ptr<Connection> connection);

  absl::Status OpenDevice(const ConnectOptions& options);
  v1::AllocateRequest RequestFor(Bytes size, const AllocateOptions& options) const;
  // Asks once more when the daemon had no room while frees of this process were on their way to it.
  template <typename Ask>
  auto WithRoomOfQueuedFrees(const Ask& ask) -> decltype(ask());
  // Maps the token's region and counts the block. On an error the block is given back.
  absl::StatusOr<Grant> Accept(const v1::Token& token);
  absl::StatusOr<cuda::DevicePointer> Map(const v1::Token& token);
  v1::FreeRequest FreeRequestFor(uint64_t allocation_id, bool unmapped);
  // Has the upkeep look into an answer that may mean that the session is lost. Returns the answer.
  absl::Status Heed(const absl::Status& status);
  // Ends this process's use of the block; whether the daemon may take its region as unmapped.
  bool Unuse(const Grant& grant);

  const std::unique_ptr<Connection> connection_;
  std::unique_ptr<cuda::Driver> driver_;
  std::unique_ptr<cuda::Device> device_;
  std::unique_ptr<RegionCache> regions_;
  std::unique_ptr<Upkeep> upkeep_;
  std::unique_ptr<DaemonWatch> daemon_watch_;  // null where the daemon's process cannot be held
};

}  // namespace tenure

#endif  // CLIENT_SESSION_H_

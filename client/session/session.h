#ifndef CLIENT_SESSION_SESSION_H_
#define CLIENT_SESSION_SESSION_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"

#include "client/options.h"
#include "client/session/attachment.h"
#include "client/session/daemon_watch.h"
#include "client/session/region_cache.h"
#include "client/session/session_stub.h"
#include "client/session/upkeep.h"
#include "common/bytes.h"
#include "common/cuda/device.h"

namespace tenure {

// A block as this process holds it.
struct Grant {
  uint64_t allocation_id = 0;
  uint64_t region_id = 0;
  Bytes size;  // as granted
  Bytes region_size;
  cuda::DevicePointer pointer = 0;  // 0 in a process that maps nothing
  bool own_region = false;          // no other block can be in its region
  MemoryKind kind = MemoryKind::kCudaIpc;
  uint64_t restarts = 0;  // of the daemon before it was granted
};

// A block that becomes one of a segment, of which as much counts as was asked for.
struct SealedBlock {
  Grant grant;
  Bytes size;
};

// Everything that a process has of one daemon: the session's calls, the device, the regions mapped
// on it and the upkeep of them. Client and DeviceBuffer are handles to it; the last of them ends
// it.
//
// Invariants: 1. no region outlives the session's end: all are unmapped before the daemon is told;
// 2. in a forked child nothing of this is touched, not even by destruction.
// Owns: all of its parts.
// Thread safety: thread-safe.
// Errors: those of SessionStub; those of cuda::Device for mapping.
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

  // Makes a segment of the blocks. On success their grants are used up, and they are mapped for
  // reading instead. `request` lacks the blocks, of which there is one at least.
  // Errors: as Client::Publish.
  absl::StatusOr<Attachment> Publish(v1::PublishSegmentRequest request,
                                     const std::vector<SealedBlock>& blocks);
  // With `claim`, who is to load it if it is not there. Of the threads that ask, one is told kOurs,
  // and has to end that with EndLoading.
  absl::StatusOr<std::variant<Attachment, Claim>> Attach(const std::string& name,
                                                         std::optional<uint32_t> owner_uid,
                                                         bool claim);
  // The claim is used up if something was published, and given back otherwise.
  void EndLoading(const std::string& name, bool published) ABSL_LOCKS_EXCLUDED(loading_mutex_);
  // As Release and Discard. The attachment is used up.
  absl::Status Detach(const Attachment& attachment);
  void DiscardAttachment(const Attachment& attachment);
  absl::Status Unpublish(const std::string& name, std::optional<uint32_t> owner_uid, bool force);

  const SessionStub& connection() const { return *stub_; }
  bool maps() const { return device_ != nullptr; }
  // Null in a process that maps nothing.
  cuda::Device* device() const { return device_.get(); }

 private:
  Session(std::unique_ptr<SessionStub> connection, const ConnectOptions& options,
          std::string socket);

  absl::Status OpenDevice(const ConnectOptions& options);
  v1::AllocateRequest RequestFor(Bytes size, const AllocateOptions& options) const;
  // Asks once more when the daemon had no room while frees of this process were on their way to it.
  template <typename Ask>
  auto WithRoomOfQueuedFrees(const Ask& ask) -> decltype(ask());
  // Maps the token's region and counts the block. On an error the block is given back.
  absl::StatusOr<Grant> Accept(const v1::Token& token);
  absl::StatusOr<cuda::DevicePointer> Map(const v1::Token& token);
  v1::FreeRequest FreeRequestFor(uint64_t allocation_id, bool unmapped);
  // The kind that a request without one gets.
  MemoryKind DefaultKind() const;
  void WatchDaemon() ABSL_LOCKS_EXCLUDED(watch_mutex_);
  // The session goes on at a daemon that was started again.
  void NoteRestart();
  // Has the upkeep look into an answer that may mean that the session is lost. Returns the answer.
  absl::Status Heed(const absl::Status& status);
  // Maps the blocks of a segment; on an error the attachment is over.
  absl::StatusOr<Attachment> Accept(v1::AttachSegmentResponse response);
  absl::Status MapBlock(const v1::AttachSegmentResponse::Block& block, uint32_t index,
                        Attachment& attachment);
  // Maps a block that was just published for reading, in place of how it was mapped before.
  absl::Status Remap(const Grant& grant, uint32_t index, Attachment& attachment);
  // The attachment to what was published by a call whose answer was lost.
  absl::StatusOr<Attachment> AttachPublished(const v1::PublishSegmentRequest& request);
  void UnmapSegment(const Attachment& attachment);
  // Ends this process's use of the block; whether the daemon may take its region as unmapped.
  bool Unuse(const Grant& grant);

  const std::unique_ptr<SessionStub> stub_;
  const std::optional<MemoryKind> memory_kind_;
  std::unique_ptr<cuda::Driver> driver_;
  std::unique_ptr<cuda::Device> device_;
  std::unique_ptr<RegionCache> regions_;
  // Of segments. Apart from regions_, because a region that is being published is mapped both ways
  // for a moment.
  std::unique_ptr<RegionCache> segment_regions_;
  const std::string socket_;
  const std::function<void(uint64_t)> on_restart_;
  std::atomic<uint64_t> restarts_ = 0;
  std::atomic<uint64_t> ipc_blocks_ = 0;  // granted since the last restart, and not given back
  std::unique_ptr<Upkeep> upkeep_;
  // Guards which segments this process is loading.
  absl::Mutex loading_mutex_;
  std::set<std::string> loading_ ABSL_GUARDED_BY(loading_mutex_);
  // Guards who watches; taken by the upkeep's thread and at the end.
  absl::Mutex watch_mutex_;
  bool closing_ ABSL_GUARDED_BY(watch_mutex_) = false;
  // Null where the daemon's process cannot be held.
  std::unique_ptr<DaemonWatch> daemon_watch_ ABSL_GUARDED_BY(watch_mutex_);
};

}  // namespace tenure

#endif  // CLIENT_SESSION_SESSION_H_

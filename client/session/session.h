// A client's session: its calls, its device, its mapped regions and its threads.
#ifndef CLIENT_SESSION_SESSION_H_
#define CLIENT_SESSION_SESSION_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"

#include "client/options.h"
#include "client/session/attachment.h"
#include "client/session/daemon_watch.h"
#include "client/session/leased_block.h"
#include "client/session/region_cache.h"
#include "client/session/session_stub.h"
#include "client/session/upkeep.h"
#include "common/bytes.h"
#include "common/cuda/device.h"

namespace tenure {

// The name of a session that is given none: that of the program, as far as the daemon takes it. A
// program's file may have any name.
std::string DefaultSessionName(absl::string_view program);

// One session at the daemon, with the device, the regions mapped on it, and the threads that renew
// the lease and watch the daemon. Client, DeviceBuffer and Segment share it; the last of them ends
// it.
//
// Hides: the wire. Its callers see values only.
// Invariants: 1. All regions are unmapped before the daemon is told that the session ends. 2. In a
// forked child no member is used, and none is destroyed.
// Owns: the stub, the driver, the device, the region caches and the threads.
// Thread safety: thread-safe.
// Errors: those of SessionStub; those of cuda::Device for mapping.
class Session {
 public:
  // Errors: as Client::Connect.
  static absl::StatusOr<std::shared_ptr<Session>> Open(const ConnectOptions& options);
  // Waits at most 1 s for the daemon's answer to the end of the session.
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  absl::StatusOr<LeasedBlock> Allocate(Bytes size, const AllocateOptions& options);
  absl::StatusOr<std::vector<LeasedBlock>> AllocateBatch(absl::Span<const Bytes> sizes);
  // Unmaps the block if nothing else lies in its region, frees it, and waits for the answer. The
  // block is not this process's any more, whatever the answer is.
  absl::Status Free(const LeasedBlock& block);
  // The same without waiting: Upkeep sends the free.
  void QueueFree(const LeasedBlock& block);
  absl::Status Flush();

  // Makes a segment of the blocks and maps them for reading instead. The blocks are used up,
  // whatever the answer is: those that did not become the segment's are freed.
  // REQUIRES: at least one block.
  // Errors: as Client::Publish.
  absl::StatusOr<Attachment> Publish(const Publication& publication,
                                     const std::vector<LeasedBlock>& blocks);
  // With `claim`, a segment that is not published is no error: then the answer tells which caller
  // may load it. Of the threads of this process that call, one is answered kGranted. It must call
  // EndLoading afterwards.
  absl::StatusOr<AttachAnswer> Attach(const std::string& name, std::optional<uint32_t> owner_uid,
                                      bool claim);
  // Ends the caller's claim. If nothing was published, the daemon may grant it to another session.
  void EndLoading(const std::string& name, bool published) ABSL_LOCKS_EXCLUDED(loading_mutex_);
  // Unmaps the segment, ends the attachment, and waits for the answer.
  absl::Status Detach(const Attachment& attachment);
  // The same without waiting.
  void QueueDetach(const Attachment& attachment);
  absl::Status Unpublish(const std::string& name, std::optional<uint32_t> owner_uid, bool force);

  // OK unless the session is lost or this process is a forked child.
  absl::Status Usable() const { return stub_->Usable(); }
  bool InForkedChild() const { return stub_->InForkedChild(); }
  uint64_t id() const { return stub_->session_id(); }
  const std::string& device_uuid() const { return stub_->session().device_uuid(); }
  Bytes max_pool_block() const { return Bytes(stub_->session().max_pool_block_bytes()); }
  bool maps() const { return device_ != nullptr; }
  // Null in a process that maps nothing.
  cuda::Device* device() const { return device_.get(); }

 private:
  Session(std::unique_ptr<SessionStub> stub, const ConnectOptions& options, std::string socket);

  absl::Status OpenDevice(const ConnectOptions& options);
  void WatchDaemon() ABSL_LOCKS_EXCLUDED(watch_mutex_);
  // The next daemon has restored this session. Called on the upkeep's thread.
  void OnRestart();
  // Renews the lease at once if the answer may mean that the session is lost. Returns the answer.
  absl::Status RenewIfUnknown(const absl::Status& answer);

  // Blocks; defined in session_blocks.cc.
  v1::AllocateRequest RequestFor(Bytes size, const AllocateOptions& options) const;
  // The kind of a request that names none.
  MemoryKind DefaultKind() const;
  // Calls `allocate`, and a second time if the daemon had no room while frees of this process were
  // on their way to it.
  template <typename Call>
  auto RetryAfterQueuedFrees(const Call& allocate) -> decltype(allocate());
  // Maps the region of a granted block. On an error the block is freed.
  absl::StatusOr<LeasedBlock> MapGranted(const v1::Token& token, Bytes requested);
  absl::StatusOr<cuda::DevicePointer> Map(const v1::Token& token);
  // Gives up the block's mapping. True when its region is not mapped any more.
  bool Unmap(const LeasedBlock& block);
  void CountIpcBlockGone(const LeasedBlock& block);
  v1::FreeRequest FreeRequestFor(uint64_t allocation_id, bool unmapped);

  // Segments; defined in session_segments.cc.
  // Maps the blocks of a segment. On an error the attachment is ended.
  absl::StatusOr<Attachment> MapAttached(v1::AttachSegmentResponse response);
  absl::Status MapBlock(const v1::AttachSegmentResponse::Block& block, uint32_t index,
                        Attachment& attachment);
  // Maps a block that was just published for reading, in place of its mapping so far.
  absl::Status RemapPublished(const LeasedBlock& block, uint32_t index, Attachment& attachment);
  // Attaches to the segment that an attempt without an answer has published.
  absl::StatusOr<Attachment> AttachPublished(const Publication& publication);
  void UnmapSegment(const Attachment& attachment);

  const std::unique_ptr<SessionStub> stub_;
  const std::optional<MemoryKind> memory_kind_;
  const std::string socket_;
  const std::function<void(uint64_t)> on_restart_;

  // Null in a process that maps nothing. The device needs the driver, the caches need the device.
  std::unique_ptr<cuda::Driver> driver_;
  std::unique_ptr<cuda::Device> device_;
  std::unique_ptr<RegionCache> regions_;
  // The regions of segments. They are apart from regions_, because while a region is being
  // published it is mapped twice: for writing there, and for reading here.
  std::unique_ptr<RegionCache> segment_regions_;

  std::atomic<uint64_t> restarts_ = 0;    // of the daemon, in this session
  std::atomic<uint64_t> ipc_blocks_ = 0;  // of kind CUDA_IPC, granted since the last restart
  std::unique_ptr<Upkeep> upkeep_;

  // Guards the names of the segments that threads of this process are loading.
  absl::Mutex loading_mutex_;
  std::set<std::string> loading_ ABSL_GUARDED_BY(loading_mutex_);

  // Guards the watch, which the upkeep's thread replaces and the destructor removes.
  absl::Mutex watch_mutex_;
  bool closing_ ABSL_GUARDED_BY(watch_mutex_) = false;
  // Null where the daemon's process cannot be watched.
  std::unique_ptr<DaemonWatch> daemon_watch_ ABSL_GUARDED_BY(watch_mutex_);
};

}  // namespace tenure

#endif  // CLIENT_SESSION_SESSION_H_

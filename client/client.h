// Leases GPU memory from the daemon: the entry to this library.
#ifndef CLIENT_CLIENT_H_
#define CLIENT_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "client/device_buffer.h"
#include "client/options.h"
#include "client/segment.h"
#include "common/bytes.h"
#include "common/cuda/device.h"
#include "common/export.h"
#include "common/limits.h"

namespace tenure {

class Session;
struct LeasedBlock;

// A handle to a session at the daemon. Copies share the session, and so do the buffers and segments
// made by it. The last of them ends the session, which waits at most 1 s for the daemon. A process
// may have several sessions.
//
// In a child that was forked after Connect, every call fails with FAILED_PRECONDITION, and
// destructors do nothing. Fork before Connect, or connect in a program that the child executes.
//
// Thread safety: thread-safe.
// Errors: each call has these besides its own. ABORTED: the session is lost, because the daemon was
// restarted or ended it; connect again. UNAVAILABLE, DEADLINE_EXCEEDED: the daemon could not be
// reached within call_timeout; the call may be repeated. FAILED_PRECONDITION: this process is a
// forked child.
class TENURE_EXPORT Client {
 public:
  // Opens a session, and the device that the daemon serves. Not idempotent: each call opens another
  // session.
  // Errors: NOT_FOUND: there is no socket, or this process does not see the driver or the device.
  // UNAVAILABLE: no daemon listens on the socket. PERMISSION_DENIED: this uid may not connect.
  // INVALID_ARGUMENT: the socket is no path to a socket, or the driver's name is unknown.
  // RESOURCE_EXHAUSTED: the daemon's limit of sessions is reached.
  static absl::StatusOr<Client> Connect(const ConnectOptions& options = {});

  Client(const Client&);
  Client& operator=(const Client&);
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();

  // Leases one block of at least `size` bytes. Its contents are unspecified, but never another
  // tenant's. Not idempotent: a second call leases a second block. A request whose reply was lost
  // is sent again by the library with the same id, and leaks nothing.
  // Errors: RESOURCE_EXHAUSTED: there is no room; the message says how much would have to be freed.
  // INVALID_ARGUMENT: the size is 0, the alignment is not a power of two up to 2 MiB, or the block
  // is too large for Placement::kPool. The driver's, if the block cannot be mapped here.
  absl::StatusOr<DeviceBuffer> Allocate(Bytes size, const AllocateOptions& options = {});
  // Leases one block for each size, in the order of `sizes`, or none at all. At most 1024
  // (kMaxBatch) sizes; no size gives no block and makes no RPC. The options are AllocateOptions'
  // defaults. Not idempotent.
  // Errors: as Allocate, and INVALID_ARGUMENT: more than kMaxBatch sizes.
  absl::StatusOr<std::vector<DeviceBuffer>> AllocateBatch(absl::Span<const Bytes> sizes);

  // Makes a segment of the blocks and attaches to it. The segment belongs to the user of this
  // process and outlives the process. The blocks are unmapped and mapped again for reading;
  // pointers to them are invalid. They are used up, whatever the answer is. `name`: 1 to 128
  // (kMaxSegmentName) letters, digits and "._-/". Not idempotent.
  // Errors: ALREADY_EXISTS: the name is taken. FAILED_PRECONDITION: another session is loading a
  // segment of this name.
  // INVALID_ARGUMENT: a block is empty, of another session, not direct, or not of the same kind as
  // the others; a tensor lies outside its block; a limit is exceeded. The driver's: the segment is
  // published, but this process could not map it.
  absl::StatusOr<Segment> Publish(const std::string& name, SegmentContents contents,
                                  const PublishOptions& options = {});
  // Attaches to a segment of this process's user, or of `owner_uid`, and maps it. Not idempotent:
  // each call makes another attachment. The attachments of one session share the mappings.
  // Errors: NOT_FOUND: there is no such segment, or this user may not attach to it. The driver's,
  // if it cannot be mapped here.
  absl::StatusOr<Segment> Attach(const std::string& name,
                                 std::optional<uint32_t> owner_uid = std::nullopt);
  // Attaches to the segment of this process's user with this name. If it is not published, one of
  // all processes and threads that call this calls its loader and publishes the result, and the
  // others wait. If the loader fails or its process dies, another one loads. The loader runs on the
  // calling thread, at most once for each call. Idempotent, except that each call makes another
  // attachment.
  // Errors: the loader's; those of Publish and Attach; DEADLINE_EXCEEDED: another process has been
  // loading for LoadOptions::wait.
  using Loader = std::function<absl::StatusOr<SegmentContents>(Client& client)>;
  absl::StatusOr<Segment> AttachOrLoad(const std::string& name, const Loader& loader,
                                       const LoadOptions& options = {});
  // Ends a segment: no process can attach to it any more. Its memory returns to the driver as soon
  // as no process has it mapped. Root may end the segments of other users. A repeated call is
  // NOT_FOUND.
  // Errors: NOT_FOUND: there is no such segment. FAILED_PRECONDITION: it is attached, and `force`
  // is false.
  // PERMISSION_DENIED: it belongs to another user.
  absl::Status Unpublish(const std::string& name, bool force = false,
                         std::optional<uint32_t> owner_uid = std::nullopt);

  // Waits until the daemon has answered everything that destructors have queued so far: the frees
  // of DeviceBuffers and the detaches of Segments. Idempotent.
  // Errors: the first error of a queued free since the last Flush. DEADLINE_EXCEEDED: not all were
  // answered within call_timeout; the rest stay queued.
  absl::Status Flush();

  // OK until the session is lost. Makes no RPC.
  absl::Status status() const;
  // The daemon's id for the session, as `tenurectl ps` shows it. The same after a restart of the
  // daemon that the session survives.
  uint64_t session_id() const;
  // The UUID of the device whose memory is leased: "GPU-" and 36 characters.
  const std::string& device_uuid() const;
  // Blocks up to this size come from pools, unless AllocateOptions says otherwise.
  Bytes max_pool_block() const;
  // Whether this process maps what it leases (ConnectOptions::map).
  bool maps() const;
  // The device, with this process's CUDA context on it. Lives as long as the session.
  // REQUIRES: maps().
  cuda::Device& device() const;

 private:
  explicit Client(std::shared_ptr<Session> session);

  // The blocks of the buffers, all of which must be this session's.
  absl::StatusOr<std::vector<LeasedBlock>> BlocksOf(const std::vector<DeviceBuffer>& buffers) const;
  absl::StatusOr<Segment> LoadAndPublish(const std::string& name, const Loader& loader,
                                         const LoadOptions& options);

  std::shared_ptr<Session> session_;
};

}  // namespace tenure

#endif  // CLIENT_CLIENT_H_

// Leasing GPU memory from the daemon: the entry to this library.
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
#include "client/export.h"
#include "client/options.h"
#include "client/segment.h"
#include "common/bytes.h"
#include "common/cuda/device.h"

namespace tenure {

class Session;
struct LeasedBlock;

// A session at the daemon. Copies share the session, and so do the buffers made by it; the last of
// them ends the session, which waits for the daemon for at most a second. A process may have
// several sessions.
//
// In a child forked after Connect every call fails with FAILED_PRECONDITION and destructors do
// nothing: fork first and connect then, or connect in a program that the child executes.
//
// Thread safety: thread-safe.
// Errors of every call, besides its own: ABORTED (the session is lost, for good: the daemon was
// restarted or ended it; connect anew), UNAVAILABLE or DEADLINE_EXCEEDED (the daemon could not be
// reached within call_timeout; the call may be repeated), FAILED_PRECONDITION (a forked child).
class TENURE_EXPORT Client {
 public:
  // Opens a session, and the device that the daemon serves. Not idempotent: each call opens another
  // session.
  // Errors: NOT_FOUND: no daemon at the socket, no such driver or device here. UNAVAILABLE: a
  // daemon that is not listening. PERMISSION_DENIED: this uid may not connect. INVALID_ARGUMENT: no
  // socket path, no driver's name. RESOURCE_EXHAUSTED: the daemon's limit of sessions.
  static absl::StatusOr<Client> Connect(const ConnectOptions& options = {});

  Client(const Client&);
  Client& operator=(const Client&);
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();

  // One block of at least `size` bytes. What is in it is unspecified, and never another tenant's. A
  // lost reply is repeated under the hood and leaks nothing; a second call is a second block.
  // Errors: RESOURCE_EXHAUSTED: no room; the message says what would have to be freed.
  // INVALID_ARGUMENT: a size of 0, an alignment that is no power of two up to 2 MiB, a placement
  // that cannot be. The driver's, if the block cannot be mapped here.
  absl::StatusOr<DeviceBuffer> Allocate(Bytes size, const AllocateOptions& options = {});
  // One block for each size, or none at all. At most 1024.
  // Errors: as Allocate.
  absl::StatusOr<std::vector<DeviceBuffer>> AllocateBatch(absl::Span<const Bytes> sizes);

  // Makes the blocks a segment of this process's user, which outlives the process, and attaches to
  // it: the blocks are unmapped and mapped again for reading. They are used up, whatever the answer
  // is. `name`: 1 to 128 letters, digits and "._-/".
  // Errors: ALREADY_EXISTS: the name is taken. FAILED_PRECONDITION: another session is loading a
  // segment of this name. INVALID_ARGUMENT: a block that is empty, of another session, not direct
  // or of another kind than the rest, a tensor that lies outside, more than the limits allow.
  absl::StatusOr<Segment> Publish(const std::string& name, SegmentContents contents,
                                  const PublishOptions& options = {});
  // Attaches to a segment of this process's user, or of `owner_uid`, and maps it.
  // Errors: NOT_FOUND: there is none that this process may attach. The driver's, if it cannot be
  // mapped here.
  absl::StatusOr<Segment> Attach(const std::string& name,
                                 std::optional<uint32_t> owner_uid = std::nullopt);
  // The segment of this process's user with this name. Of all the processes that ask for one that
  // is not there, the first calls its loader and publishes what that returns; the others wait for
  // it. If it fails or dies, another of them loads.
  // Errors: the loader's own; those of Publish and Attach; DEADLINE_EXCEEDED: others have been
  // loading for as long as LoadOptions::wait.
  using Loader = std::function<absl::StatusOr<SegmentContents>(Client& client)>;
  absl::StatusOr<Segment> AttachOrLoad(const std::string& name, const Loader& loader,
                                       const LoadOptions& options = {});
  // Ends a segment: nobody can attach it any more, and its memory goes back to the driver when
  // nobody has it mapped any more. Root may end anybody's.
  // Errors: NOT_FOUND: there is none. FAILED_PRECONDITION: it is attached and `force` is false.
  // PERMISSION_DENIED: it is somebody else's.
  absl::Status Unpublish(const std::string& name, bool force = false,
                         std::optional<uint32_t> owner_uid = std::nullopt);

  // Waits until every free queued so far by a DeviceBuffer's destructor, and every end of an
  // attachment queued by a Segment's, was answered by the daemon. Idempotent.
  // Errors: the first that one of these frees met since the last Flush.
  absl::Status Flush();

  // OK until the session is lost.
  absl::Status status() const;
  uint64_t session_id() const;
  // The device whose memory is leased: "GPU-" and 36 characters.
  const std::string& device_uuid() const;
  // Blocks up to this size come from pools unless told otherwise.
  Bytes max_pool_block() const;
  // Whether this process maps what it leases (ConnectOptions::map).
  bool maps() const;
  // The device with this process's context on it; only where maps() is true. Lives as long as the
  // session.
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

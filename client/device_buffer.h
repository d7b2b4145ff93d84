#ifndef CLIENT_DEVICE_BUFFER_H_
#define CLIENT_DEVICE_BUFFER_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"

#include "client/export.h"
#include "common/bytes.h"
#include "common/cuda/device.h"

namespace tenure {

class Session;
struct Grant;

// A block of GPU memory on lease. Move-only; gives the block back when it goes. Empty when made by
// default, moved from or released.
//
// What the GPU was told to do with the block must be done before it is given back: the daemon
// neither knows of nor waits for anybody's kernels.
//
// Invariants: the pointer stays valid while the buffer lives, also when the daemon dies meanwhile.
// Owns: the block, and a share in its client's session.
// Thread safety: thread-compatible. Different buffers may be used by different threads.
// Errors: INVALID_ARGUMENT (a null pointer), OUT_OF_RANGE (a range beyond size()),
// FAILED_PRECONDITION (an empty buffer, a process that maps nothing, a forked child), else the
// driver's.
class TENURE_EXPORT DeviceBuffer {
 public:
  DeviceBuffer();
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;
  // Never waits for an RPC: the free is queued. If the block had a region of its own the region is
  // unmapped, which is one driver call. The last handle of a session ends the session.
  ~DeviceBuffer();

  explicit operator bool() const { return session_ != nullptr; }
  // In device memory; 0 when empty or in a process that maps nothing.
  cuda::DevicePointer pointer() const;
  // Usable bytes: at least requested().
  Bytes size() const;
  Bytes requested() const { return requested_; }
  // The daemon's name for the block, as `tenurectl ls` shows it; 0 when empty.
  uint64_t allocation_id() const;

  // Copies `size` bytes to the block, starting `offset` into it. The bytes are in device memory on
  // return.
  absl::Status CopyFromHost(const void* from, Bytes size, Bytes offset = Bytes(0));
  // Copies from the block. Sees what was queued on the legacy default stream before.
  absl::Status CopyToHost(void* to, Bytes size, Bytes offset = Bytes(0)) const;

  // Gives the block back and waits for the daemon's answer. The buffer is empty afterwards,
  // whatever the answer is. Idempotent: releasing an empty buffer does nothing.
  absl::Status Release();

 private:
  friend class Client;
  DeviceBuffer(std::shared_ptr<Session> session, const Grant& grant, Bytes requested);

  absl::Status CheckCopy(const void* host, Bytes size, Bytes offset) const;
  void Discard();

  std::shared_ptr<Session> session_;
  std::unique_ptr<Grant> grant_;
  Bytes requested_;
};

}  // namespace tenure

#endif  // CLIENT_DEVICE_BUFFER_H_

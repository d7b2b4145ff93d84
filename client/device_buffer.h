// A leased block of GPU memory.
#ifndef CLIENT_DEVICE_BUFFER_H_
#define CLIENT_DEVICE_BUFFER_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"

#include "common/bytes.h"
#include "common/cuda/device.h"
#include "common/export.h"

namespace tenure {

class Session;
struct LeasedBlock;

// A leased block of GPU memory. Move-only; frees the block when it is destroyed. Empty when
// default-constructed, moved from or released.
//
// REQUIRES: kernels and copies that use the block have ended before it is freed. The daemon does
// not know of them, and does not wait for them.
//
// Invariants: The pointer stays valid as long as the buffer, also after the death of the daemon.
// Owns: the block, and a share in its client's session.
// Thread safety: thread-compatible. Different buffers may be used by different threads.
// Errors: INVALID_ARGUMENT: the host pointer is null. OUT_OF_RANGE: the range reaches beyond
// size(). FAILED_PRECONDITION: the buffer is empty, this process maps nothing, or it is a forked
// child. Else those of the driver.
class TENURE_EXPORT DeviceBuffer {
 public:
  DeviceBuffer();
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;
  // Never waits for an RPC: the free is queued. If the block has a region of its own, that region
  // is unmapped, which is one driver call. If this was the last handle of the session, ends the
  // session, which waits at most 1 s.
  ~DeviceBuffer();

  explicit operator bool() const { return session_ != nullptr; }
  // An address in device memory, for kernels and for the driver's copies. 0 when the buffer is
  // empty or this process maps nothing.
  cuda::DevicePointer pointer() const;
  // Usable bytes: at least requested(). Both are 0 when empty.
  Bytes size() const;
  Bytes requested() const;
  // The daemon's id for the block, as `tenurectl ls` shows it. 0 when empty.
  uint64_t allocation_id() const;

  // Copies `size` bytes from host memory to the block, beginning at `offset`. On return the bytes
  // are in device memory. Both copies run on the legacy default stream, after all work that this
  // process queued there before. They do not wait for other streams.
  absl::Status CopyFromHost(const void* from, Bytes size, Bytes offset = Bytes(0));
  // Copies `size` bytes of the block, beginning at `offset`, to host memory.
  absl::Status CopyToHost(void* to, Bytes size, Bytes offset = Bytes(0)) const;

  // Frees the block and waits for the daemon's answer. The buffer is empty afterwards, whatever the
  // answer is. Idempotent: on an empty buffer it does nothing and returns OK.
  // Errors: as Client, and NOT_FOUND: the daemon does not know the block. UNAVAILABLE,
  // DEADLINE_EXCEEDED: not answered in time; the library repeats the free until it is answered.
  absl::Status Release();

 private:
  friend class Client;
  DeviceBuffer(std::shared_ptr<Session> session, const LeasedBlock& block);

  absl::Status CheckCopy(const void* host, Bytes size, Bytes offset) const;
  void Discard();

  std::shared_ptr<Session> session_;
  std::unique_ptr<LeasedBlock> block_;  // null when empty, as session_ is
};

}  // namespace tenure

#endif  // CLIENT_DEVICE_BUFFER_H_

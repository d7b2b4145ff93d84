#include "client/device_buffer.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "client/session/session.h"

namespace tenure {

DeviceBuffer::DeviceBuffer() = default;

DeviceBuffer::DeviceBuffer(std::shared_ptr<Session> session, const LeasedBlock& block)
    : session_(std::move(session)), block_(std::make_unique<LeasedBlock>(block)) {}

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept = default;

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  if (this != &other) {
    Discard();
    session_ = std::move(other.session_);
    block_ = std::move(other.block_);
  }
  return *this;
}

DeviceBuffer::~DeviceBuffer() { Discard(); }

void DeviceBuffer::Discard() {
  if (session_ == nullptr) return;
  session_->QueueFree(*block_);
  block_.reset();
  // The session is released last: this may be its last handle, and its end unmaps all regions.
  session_.reset();
}

cuda::DevicePointer DeviceBuffer::pointer() const { return block_ ? block_->pointer : 0; }

Bytes DeviceBuffer::size() const { return block_ ? block_->size : Bytes(0); }

Bytes DeviceBuffer::requested() const { return block_ ? block_->requested : Bytes(0); }

uint64_t DeviceBuffer::allocation_id() const { return block_ ? block_->allocation_id : 0; }

absl::Status DeviceBuffer::CheckCopy(const void* host, Bytes size, Bytes offset) const {
  if (session_ == nullptr) return absl::FailedPreconditionError("copy: the buffer is empty");
  // Usable() is not asked in general: when the session is lost, the block is still mapped and may
  // be read.
  if (session_->InForkedChild()) return session_->Usable();
  if (!session_->maps()) {
    return absl::FailedPreconditionError(
        "copy: this process connected with map = false and has no device memory");
  }
  if (host == nullptr && size > Bytes(0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("copy ", size.value(), " bytes: the host pointer is null"));
  }
  // Compared by a difference, because offset + size could exceed 64 bits.
  if (offset > block_->size || size > block_->size - offset) {
    return absl::OutOfRangeError(absl::StrCat("copy ", size.value(), " bytes at offset ",
                                              offset.value(), ": the buffer has ",
                                              block_->size.value()));
  }
  return absl::OkStatus();
}

absl::Status DeviceBuffer::CopyFromHost(const void* from, Bytes size, Bytes offset) {
  const absl::Status possible = CheckCopy(from, size, offset);
  if (!possible.ok() || size == Bytes(0)) return possible;
  return session_->device()->CopyToDevice(block_->pointer + offset.value(), from, size);
}

absl::Status DeviceBuffer::CopyToHost(void* to, Bytes size, Bytes offset) const {
  const absl::Status possible = CheckCopy(to, size, offset);
  if (!possible.ok() || size == Bytes(0)) return possible;
  return session_->device()->CopyToHost(to, block_->pointer + offset.value(), size);
}

absl::Status DeviceBuffer::Release() {
  if (session_ == nullptr) return absl::OkStatus();
  // Emptied before the call: whatever the answer is, the destructor must not free the block again.
  const std::shared_ptr<Session> session = std::exchange(session_, nullptr);
  const std::unique_ptr<LeasedBlock> block = std::move(block_);
  return session->Free(*block);
}

}  // namespace tenure

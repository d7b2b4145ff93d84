#include "client/device_buffer.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "client/session/session.h"

namespace tenure {

DeviceBuffer::DeviceBuffer() = default;

DeviceBuffer::DeviceBuffer(std::shared_ptr<Session> session, const Grant& grant, Bytes requested)
    : session_(std::move(session)), grant_(std::make_unique<Grant>(grant)), requested_(requested) {}

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept
    : session_(std::move(other.session_)),
      grant_(std::move(other.grant_)),
      requested_(std::exchange(other.requested_, Bytes(0))) {}

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  if (this != &other) {
    Discard();
    session_ = std::move(other.session_);
    grant_ = std::move(other.grant_);
    requested_ = std::exchange(other.requested_, Bytes(0));
  }
  return *this;
}

DeviceBuffer::~DeviceBuffer() { Discard(); }

void DeviceBuffer::Discard() {
  if (session_ == nullptr) return;
  session_->Discard(*grant_);
  grant_.reset();
  session_.reset();
}

cuda::DevicePointer DeviceBuffer::pointer() const { return grant_ ? grant_->pointer : 0; }

Bytes DeviceBuffer::size() const { return grant_ ? grant_->size : Bytes(0); }

uint64_t DeviceBuffer::allocation_id() const { return grant_ ? grant_->allocation_id : 0; }

absl::Status DeviceBuffer::CheckCopy(const void* host, Bytes size, Bytes offset) const {
  if (session_ == nullptr) return absl::FailedPreconditionError("copy: the buffer is empty");
  if (session_->connection().InForkedChild()) return session_->connection().Usable();
  if (!session_->maps()) {
    return absl::FailedPreconditionError(
        "copy: this process connected with map = false and has no device memory");
  }
  if (host == nullptr && size > Bytes(0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("copy ", size.value(), " bytes: the host pointer is null"));
  }
  if (offset > grant_->size || size > grant_->size - offset) {
    return absl::OutOfRangeError(absl::StrCat("copy ", size.value(), " bytes at offset ",
                                              offset.value(), ": the buffer has ",
                                              grant_->size.value()));
  }
  return absl::OkStatus();
}

absl::Status DeviceBuffer::CopyFromHost(const void* from, Bytes size, Bytes offset) {
  const absl::Status possible = CheckCopy(from, size, offset);
  if (!possible.ok() || size == Bytes(0)) return possible;
  return session_->device()->CopyToDevice(grant_->pointer + offset.value(), from, size);
}

absl::Status DeviceBuffer::CopyToHost(void* to, Bytes size, Bytes offset) const {
  const absl::Status possible = CheckCopy(to, size, offset);
  if (!possible.ok() || size == Bytes(0)) return possible;
  return session_->device()->CopyToHost(to, grant_->pointer + offset.value(), size);
}

absl::Status DeviceBuffer::Release() {
  if (session_ == nullptr) return absl::OkStatus();
  const std::shared_ptr<Session> session = std::exchange(session_, nullptr);
  const std::unique_ptr<Grant> grant = std::move(grant_);
  requested_ = Bytes(0);
  return session->Release(*grant);
}

}  // namespace tenure

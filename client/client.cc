#include "client/client.h"

#include <utility>

#include "client/session/session.h"
#include "common/check.h"
#include "common/status_macros.h"

namespace tenure {

absl::StatusOr<Client> Client::Connect(const ConnectOptions& options) {
  TENURE_ASSIGN_OR_RETURN(std::shared_ptr<Session> session, Session::Open(options));
  return Client(std::move(session));
}

Client::Client(std::shared_ptr<Session> session) : session_(std::move(session)) {}
Client::Client(const Client&) = default;
Client& Client::operator=(const Client&) = default;
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

absl::StatusOr<DeviceBuffer> Client::Allocate(Bytes size, const AllocateOptions& options) {
  TENURE_ASSIGN_OR_RETURN(const LeasedBlock block, session_->Allocate(size, options));
  return DeviceBuffer(session_, block);
}

absl::StatusOr<std::vector<DeviceBuffer>> Client::AllocateBatch(absl::Span<const Bytes> sizes) {
  TENURE_ASSIGN_OR_RETURN(const std::vector<LeasedBlock> blocks, session_->AllocateBatch(sizes));
  std::vector<DeviceBuffer> buffers;
  buffers.reserve(blocks.size());
  for (const LeasedBlock& block : blocks) buffers.push_back(DeviceBuffer(session_, block));
  return buffers;
}

absl::Status Client::Flush() { return session_->Flush(); }

absl::Status Client::status() const { return session_->Usable(); }

uint64_t Client::session_id() const { return session_->id(); }

const std::string& Client::device_uuid() const { return session_->device_uuid(); }

Bytes Client::max_pool_block() const { return session_->max_pool_block(); }

bool Client::maps() const { return session_->maps(); }

cuda::Device& Client::device() const {
  TENURE_CHECK(session_->maps());
  return *session_->device();
}

}  // namespace tenure

#include "client/client.h"

#include <utility>

#include "client/session/session.h"
#include "common/check.h"

namespace tenure {

absl::StatusOr<Client> Client::Connect(const ConnectOptions& options) {
  absl::StatusOr<std::shared_ptr<Session>> session = Session::Open(options);
  if (!session.ok()) return session.status();
  return Client(*std::move(session));
}

Client::Client(std::shared_ptr<Session> session) : session_(std::move(session)) {}
Client::Client(const Client&) = default;
Client& Client::operator=(const Client&) = default;
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

absl::StatusOr<DeviceBuffer> Client::Allocate(Bytes size, const AllocateOptions& options) {
  const absl::StatusOr<Grant> grant = session_->Allocate(size, options);
  if (!grant.ok()) return grant.status();
  return DeviceBuffer(session_, *grant, size);
}

absl::StatusOr<std::vector<DeviceBuffer>> Client::AllocateBatch(absl::Span<const Bytes> sizes) {
  const absl::StatusOr<std::vector<Grant>> grants = session_->AllocateBatch(sizes);
  if (!grants.ok()) return grants.status();
  std::vector<DeviceBuffer> buffers;
  buffers.reserve(grants->size());
  for (size_t i = 0; i < grants->size(); ++i) {
    buffers.push_back(DeviceBuffer(session_, (*grants)[i], sizes[i]));
  }
  return buffers;
}

absl::Status Client::Flush() { return session_->Flush(); }

absl::Status Client::status() const { return session_->connection().Usable(); }

uint64_t Client::session_id() const { return session_->connection().session_id(); }

const std::string& Client::device_uuid() const {
  return session_->connection().session().device_uuid();
}

Bytes Client::max_pool_block() const {
  return Bytes(session_->connection().session().max_pool_block_bytes());
}

bool Client::maps() const { return session_->maps(); }

cuda::Device& Client::device() const {
  TENURE_CHECK(session_->maps());
  return *session_->device();
}

}  // namespace tenure

#include "tests/client/fake_daemon.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <utility>

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <stdlib.h>

#include "common/check.h"

namespace tenure::testing {
namespace {

const grpc::Status kUnknownSession(grpc::StatusCode::NOT_FOUND, "no such session");
const grpc::Status kLostReply(grpc::StatusCode::UNAVAILABLE, "the reply was lost");

}  // namespace

FakeDaemon::FakeDaemon(uint64_t lease_ttl_ms)
    : lease_ttl_ms_(lease_ttl_ms), folder_("/tmp/tenure-test-XXXXXX") {
  TENURE_CHECK(mkdtemp(folder_.data()) != nullptr);
  socket_ = folder_ + "/grpc.sock";
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + socket_, grpc::InsecureServerCredentials());
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  TENURE_CHECK(server_ != nullptr);
}

FakeDaemon::~FakeDaemon() {
  server_->Shutdown(std::chrono::system_clock::now());
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void FakeDaemon::SetObstacle(Obstacle obstacle) {
  absl::MutexLock lock(&mutex_);
  obstacle_ = std::move(obstacle);
}

void FakeDaemon::LoseReplies(const std::string& method, int count) {
  absl::MutexLock lock(&mutex_);
  lost_replies_[method] = count;
}

void FakeDaemon::CallIdle(std::vector<uint64_t> region_ids) {
  absl::MutexLock lock(&mutex_);
  idle_ = std::move(region_ids);
}

void FakeDaemon::EndSessions() {
  absl::MutexLock lock(&mutex_);
  sessions_.clear();
  allocations_.clear();
}

void FakeDaemon::EndAllocations() {
  absl::MutexLock lock(&mutex_);
  allocations_.clear();
}

std::vector<FakeDaemon::Call> FakeDaemon::Calls(const std::string& method) const {
  absl::MutexLock lock(&mutex_);
  std::vector<Call> calls;
  std::copy_if(calls_.begin(), calls_.end(), std::back_inserter(calls),
               [&](const Call& call) { return call.method == method; });
  return calls;
}

size_t FakeDaemon::sessions() const {
  absl::MutexLock lock(&mutex_);
  return sessions_.size();
}

size_t FakeDaemon::allocations() const {
  absl::MutexLock lock(&mutex_);
  return allocations_.size();
}

std::vector<uint64_t> FakeDaemon::released_regions() const {
  absl::MutexLock lock(&mutex_);
  return released_;
}

grpc::Status FakeDaemon::Admit(const Call& call, Context* context) {
  Obstacle obstacle;
  {
    absl::MutexLock lock(&mutex_);
    calls_.push_back(call);
    obstacle = obstacle_;
  }
  return obstacle ? obstacle(call, context) : grpc::Status::OK;
}

bool FakeDaemon::LosesReply(const std::string& method) {
  int& left = lost_replies_[method];
  if (left == 0) return false;
  --left;
  return true;
}

grpc::Status FakeDaemon::OpenSession(Context* context, const v1::OpenSessionRequest* request,
                                     v1::OpenSessionResponse* response) {
  const grpc::Status admitted = Admit({"OpenSession", request->request_id()}, context);
  if (!admitted.ok()) return admitted;
  absl::MutexLock lock(&mutex_);
  response->set_session_id(++last_id_);
  response->set_epoch(1);
  response->set_lease_ttl_ms(lease_ttl_ms_);
  response->set_device_uuid("GPU-fake");
  response->set_max_pool_block_bytes(1 << 20);
  sessions_.insert(last_id_);
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::KeepAlive(Context* context, const v1::KeepAliveRequest* request,
                                   v1::KeepAliveResponse* response) {
  const grpc::Status admitted = Admit({"KeepAlive"}, context);
  if (!admitted.ok()) return admitted;
  absl::MutexLock lock(&mutex_);
  if (!sessions_.contains(request->session_id())) return kUnknownSession;
  response->set_lease_ttl_ms(lease_ttl_ms_);
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::CloseSession(Context* context, const v1::CloseSessionRequest* request,
                                      v1::CloseSessionResponse*) {
  const grpc::Status admitted = Admit({"CloseSession"}, context);
  if (!admitted.ok()) return admitted;
  absl::MutexLock lock(&mutex_);
  return sessions_.erase(request->session_id()) == 1 ? grpc::Status::OK : kUnknownSession;
}

grpc::Status FakeDaemon::Allocate(Context* context, const v1::AllocateRequest* request,
                                  v1::AllocateResponse* response) {
  const grpc::Status admitted = Admit({"Allocate", request->request_id()}, context);
  if (!admitted.ok()) return admitted;
  absl::MutexLock lock(&mutex_);
  if (!sessions_.contains(request->session_id())) return kUnknownSession;
  uint64_t& id = granted_[request->request_id()];
  if (id == 0) allocations_.insert(id = ++last_id_);
  v1::Token* token = response->mutable_token();
  token->set_allocation_id(id);
  token->set_region_id(id);
  token->set_region_size_bytes(2 << 20);
  token->set_size_bytes(request->size_bytes());
  return LosesReply("Allocate") ? kLostReply : grpc::Status::OK;
}

grpc::Status FakeDaemon::FreeOne(const v1::FreeRequest& request) {
  if (!sessions_.contains(request.session_id())) return kUnknownSession;
  if (freed_requests_.contains(request.request_id())) return grpc::Status::OK;
  if (allocations_.erase(request.allocation_id()) == 0) {
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "no such allocation");
  }
  freed_requests_.insert(request.request_id());
  return grpc::Status::OK;
}

grpc::Status FakeDaemon::Free(Context* context, const v1::FreeRequest* request,
                              v1::FreeResponse* response) {
  const grpc::Status admitted = Admit({"Free", request->request_id()}, context);
  if (!admitted.ok()) return admitted;
  absl::MutexLock lock(&mutex_);
  const grpc::Status freed = FreeOne(*request);
  response->mutable_idle_region_ids()->Add(idle_.begin(), idle_.end());
  idle_.clear();
  return LosesReply("Free") ? kLostReply : freed;
}

grpc::Status FakeDaemon::FreeBatch(Context* context, const v1::FreeBatchRequest* request,
                                   v1::FreeBatchResponse* response) {
  const uint64_t first = request->requests().empty() ? 0 : request->requests(0).request_id();
  const grpc::Status admitted = Admit({"FreeBatch", first}, context);
  if (!admitted.ok()) return admitted;
  absl::MutexLock lock(&mutex_);
  for (const v1::FreeRequest& one : request->requests()) {
    const grpc::Status freed = FreeOne(one);
    v1::FreeBatchResponse::Outcome* outcome = response->add_outcomes();
    outcome->set_code(freed.error_code());
    outcome->set_message(freed.error_message());
  }
  response->mutable_idle_region_ids()->Add(idle_.begin(), idle_.end());
  idle_.clear();
  return LosesReply("FreeBatch") ? kLostReply : grpc::Status::OK;
}

grpc::Status FakeDaemon::ReleaseRegions(Context* context, const v1::ReleaseRegionsRequest* request,
                                        v1::ReleaseRegionsResponse*) {
  const grpc::Status admitted = Admit({"ReleaseRegions"}, context);
  if (!admitted.ok()) return admitted;
  absl::MutexLock lock(&mutex_);
  released_.insert(released_.end(), request->region_ids().begin(), request->region_ids().end());
  return LosesReply("ReleaseRegions") ? kLostReply : grpc::Status::OK;
}

}  // namespace tenure::testing

// A daemon in the process of the test: grants ids without memory, and fails as the test says.
#ifndef TESTS_CLIENT_FAKE_DAEMON_H_
#define TESTS_CLIENT_FAKE_DAEMON_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include <grpcpp/server.h>

#include "tenure/v1/allocator.grpc.pb.h"

namespace tenure::testing {

// A daemon without memory, for clients that map none. Keeps what a real one keeps: sessions,
// allocations, and which requests were answered already.
//
// Thread safety: thread-safe.
class FakeDaemon final : private v1::Allocator::Service {
 public:
  struct Call {
    std::string method;
    uint64_t request_id = 0;  // 0 where a request has none
  };
  // Asked before a call takes effect; anything but OK is the answer, and the call has no effect.
  using Obstacle = std::function<grpc::Status(const Call& call, grpc::ServerContext* context)>;

  explicit FakeDaemon(uint64_t lease_ttl_ms = 600'000);
  ~FakeDaemon() override;

  const std::string& socket() const { return socket_; }

  void SetObstacle(Obstacle obstacle) ABSL_LOCKS_EXCLUDED(mutex_);
  // The next `count` calls of `method` take effect, and their answers do not arrive: the caller
  // sees UNAVAILABLE.
  void LoseReplies(const std::string& method, int count) ABSL_LOCKS_EXCLUDED(mutex_);
  // The next free says that these regions are idle.
  void CallIdle(std::vector<uint64_t> region_ids) ABSL_LOCKS_EXCLUDED(mutex_);
  void EndSessions() ABSL_LOCKS_EXCLUDED(mutex_);
  // The sessions stay, and the daemon knows none of their allocations any more.
  void EndAllocations() ABSL_LOCKS_EXCLUDED(mutex_);

  // The calls of `method` so far, refused ones included.
  std::vector<Call> Calls(const std::string& method) const ABSL_LOCKS_EXCLUDED(mutex_);
  size_t sessions() const ABSL_LOCKS_EXCLUDED(mutex_);
  size_t allocations() const ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<uint64_t> released_regions() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Context = grpc::ServerContext;
  grpc::Status OpenSession(Context* context, const v1::OpenSessionRequest* request,
                           v1::OpenSessionResponse* response) override;
  grpc::Status KeepAlive(Context* context, const v1::KeepAliveRequest* request,
                         v1::KeepAliveResponse* response) override;
  grpc::Status CloseSession(Context* context, const v1::CloseSessionRequest* request,
                            v1::CloseSessionResponse* response) override;
  grpc::Status Allocate(Context* context, const v1::AllocateRequest* request,
                        v1::AllocateResponse* response) override;
  grpc::Status Free(Context* context, const v1::FreeRequest* request,
                    v1::FreeResponse* response) override;
  grpc::Status FreeBatch(Context* context, const v1::FreeBatchRequest* request,
                         v1::FreeBatchResponse* response) override;
  grpc::Status ReleaseRegions(Context* context, const v1::ReleaseRegionsRequest* request,
                              v1::ReleaseRegionsResponse* response) override;

  // Notes the call and asks the obstacle.
  grpc::Status Admit(const Call& call, Context* context) ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether the answer to a call of this method is to be lost.
  bool LosesReply(const std::string& method) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  grpc::Status FreeOne(const v1::FreeRequest& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint64_t lease_ttl_ms_;
  std::string folder_;
  std::string socket_;

  mutable absl::Mutex mutex_;
  Obstacle obstacle_ ABSL_GUARDED_BY(mutex_);
  std::vector<Call> calls_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int> lost_replies_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> idle_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> released_ ABSL_GUARDED_BY(mutex_);
  std::set<uint64_t> sessions_ ABSL_GUARDED_BY(mutex_);
  std::set<uint64_t> allocations_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, uint64_t> granted_ ABSL_GUARDED_BY(mutex_);  // by request id
  std::set<uint64_t> freed_requests_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;

  std::unique_ptr<grpc::Server> server_;
};

}  // namespace tenure::testing

#endif  // TESTS_CLIENT_FAKE_DAEMON_H_

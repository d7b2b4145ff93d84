// A session without the client library, for tests that need control of each request.
#ifndef TESTS_SUPPORT_RAW_SESSION_H_
#define TESTS_SUPPORT_RAW_SESSION_H_

#include <cstdint>
#include <functional>

#include "tenure/v1/allocator.grpc.pb.h"

namespace tenure::testing {

// A session of this process, on a stub. Request ids count up from 1.
//
// Borrows: the stub.
// Thread safety: thread-compatible.
class RawSession {
 public:
  // Opens a session; its id is 0 when that failed.
  explicit RawSession(v1::Allocator::Stub& stub);

  uint64_t id() const { return id_; }
  uint64_t NextRequestId() { return ++last_request_id_; }

  // The request for an allocation of `size_bytes`; a test may change it before Send.
  v1::AllocateRequest Request(uint64_t size_bytes);
  grpc::Status Send(const v1::AllocateRequest& request, v1::Token* token = nullptr);
  grpc::Status Allocate(uint64_t size_bytes, v1::Token* token = nullptr) {
    return Send(Request(size_bytes), token);
  }

  v1::FreeRequest FreeRequest(uint64_t allocation_id);
  grpc::Status Send(const v1::FreeRequest& request, v1::FreeResponse* response = nullptr);
  grpc::Status Free(uint64_t allocation_id) { return Send(FreeRequest(allocation_id)); }

  grpc::Status KeepAlive();
  grpc::Status Close();

 private:
  v1::Allocator::Stub& stub_;
  uint64_t id_ = 0;
  uint64_t last_request_id_ = 0;
};

}  // namespace tenure::testing

#endif  // TESTS_SUPPORT_RAW_SESSION_H_

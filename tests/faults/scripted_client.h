// A client that makes every change that the journal records, while the daemon dies and returns.
#ifndef TESTS_FAULTS_SCRIPTED_CLIENT_H_
#define TESTS_FAULTS_SCRIPTED_CLIENT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/cuda/device.h"
#include "common/unique_fd.h"
#include "tests/support/kept_daemon.h"

namespace tenure::testing {

// Repeats each call unchanged until it is answered, and remembers the answers. The running test
// fails when one of these promises is broken:
//   1. a granted block exists once, with its id and its bytes;
//   2. a freed block is gone;
//   3. a repeated call gets its first answer.
//
// Borrows: the daemon and the device.
// Thread safety: thread-compatible.
class ScriptedClient {
 public:
  ScriptedClient(KeptDaemon& daemon, cuda::Device& device);

  // Opens sessions, allocates blocks of all kinds and a batch, and publishes, attaches, detaches
  // and unpublishes a segment. Leaves some of them.
  void Run();
  // Checks that what Run left exists, in the daemon's answers and in the memory itself.
  void ExpectAllIsThere();
  // Frees everything.
  void End();
  void ExpectNothingIsLeft();

 private:
  // A block of this client, with its region mapped in this process.
  struct Held {
    v1::Token token;
    v1::AllocateRequest request;
    cuda::VmmMemory memory;
  };

  uint64_t OpenSession();
  v1::AllocateRequest NewRequest(uint64_t bytes, v1::Placement placement);
  // Returns the block's id.
  uint64_t Grant(uint64_t bytes, v1::Placement placement = v1::PLACEMENT_UNSPECIFIED);
  void GrantBatch(const std::vector<uint64_t>& sizes);
  void Keep(const v1::AllocateRequest& request, const v1::Token& token);
  void Free(uint64_t allocation, bool unmapped);
  void Publish(uint64_t allocation);
  void AttachAndDetach();
  void Unpublish();
  // Returns memory that no session leases to the driver, and its descriptors leave the store.
  void Trim();
  void Close(uint64_t session);
  UniqueFd FdOf(uint64_t allocation);
  std::string ContentsOf(const cuda::VmmMemory& memory, const v1::Token& token);

  // Repeats the call until it is answered. The status is an error only if the request is wrong.
  template <typename Service, typename Request, typename Response>
  grpc::Status Persist(grpc::Status (Service::*method)(grpc::ClientContext*, const Request&,
                                                       Response*),
                       const Request& request, Response* response);

  KeptDaemon& daemon_;
  cuda::Device& device_;
  std::shared_ptr<grpc::Channel> channel_;
  uint64_t last_request_ = 0;
  uint64_t session_ = 0;
  std::map<uint64_t, Held> held_;
  Held published_;
};

}  // namespace tenure::testing

#endif  // TESTS_FAULTS_SCRIPTED_CLIENT_H_

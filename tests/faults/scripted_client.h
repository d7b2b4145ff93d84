// A client that does one of everything that a journal is written for, over a daemon that dies.
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

// Repeats each call as it was until it is answered, and remembers what it was told. What it finds
// to be otherwise than promised fails the running test:
//   1. what was granted is there once, with its id and its bytes;
//   2. what was given back is gone;
//   3. a repeated call gets its first answer.
//
// Borrows: the daemon and the device.
// Thread safety: thread-compatible.
class ScriptedClient {
 public:
  ScriptedClient(KeptDaemon& daemon, cuda::Device& device);

  // Sessions, blocks of all sorts, a batch, a segment that is attached, detached and unpublished;
  // leaves some of it.
  void Run();
  // That what Run left is there, as the daemon and the memory say.
  void ExpectAllIsThere();
  // Gives everything back.
  void End();
  void ExpectNothingIsLeft();

 private:
  // A block that is ours, with its region mapped here.
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
  // What nobody leases goes to the driver, out of the store.
  void Trim();
  void Close(uint64_t session);
  UniqueFd FdOf(uint64_t allocation);
  std::string ContentsOf(const cuda::VmmMemory& memory, const v1::Token& token);

  // The last answer; not OK only when it is about the request itself.
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

// Another process that uses the driver on the command of a test.
#ifndef TESTS_DRIVER_CONTRACT_PEER_H_
#define TESTS_DRIVER_CONTRACT_PEER_H_

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

#include "common/cuda/driver.h"
#include "common/unique_fd.h"

namespace tenure::testing {

// The answer of a peer: the driver's result, and the value that came with CUDA_SUCCESS.
struct PeerAnswer {
  CUresult result = CUDA_SUCCESS;
  std::string value;
};

// A driver_contract_peer: another process with a context of its own on device 0.
//
// Owns: the process, which ends with it, and the children it forked.
// Thread safety: thread-compatible.
// Errors: a peer that dies unasked or stays silent for 20 s ends the test program with a message.
class Peer {
 public:
  // `driver`: a path for Driver::Load. With a `user` the peer becomes that user before its first
  // call; if it cannot, failure() says why.
  explicit Peer(const std::string& driver, uid_t user = 0, bool with_context = true);
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  pid_t pid() const { return pid_; }
  const std::string& failure() const { return failure_; }

  PeerAnswer Ask(const std::string& request);
  // Sends a request that must succeed. Returns the value.
  std::string Get(const std::string& request);
  // Sends a copy of a descriptor along; the peer keeps it until the next one comes.
  PeerAnswer AskWith(int descriptor, const std::string& request);
  // The descriptor that comes with the answer.
  UniqueFd GetDescriptor(const std::string& request);
  // Sends a request that is not answered.
  void Tell(const std::string& request);

  void OpenContext() { Get("context"); }
  // Returns the peer's name for the new memory.
  std::string Allocate(uint64_t bytes) { return Get("allocate " + std::to_string(bytes)); }
  std::string Export(const std::string& name) { return Get("export " + name); }
  std::string Open(const std::string& handle) { return Get("open " + handle); }
  void Fill(const std::string& name, uint64_t bytes, int value);
  bool Holds(const std::string& name, uint64_t bytes, int value);

  // The same for memory that descriptors name.
  std::string Create(uint64_t bytes) { return Get("create " + std::to_string(bytes)); }
  UniqueFd ExportDescriptor(const std::string& name) {
    return GetDescriptor("export-descriptor " + name);
  }
  std::string Import(int descriptor, uint64_t bytes);

  // Stops the peer, and returns when it has stopped. Continue makes it run again.
  void Stop();
  void Continue();
  // Each returns when the process has ended. Its forked children live on.
  void Kill();
  void Exit();
  // Waits until the peer ends by itself. Returns the signal that ended it; 0: it exited.
  int WaitForSignal();
  // Makes the forked children end. Does not wait for them.
  void EndChildren();

 private:
  void Start(const std::string& driver);
  void Send(const std::string& request, int descriptor = -1);
  std::string Receive();
  std::string ValueOf(const PeerAnswer& answer, const std::string& request) const;
  int Reap();

  pid_t pid_ = -1;
  int commands_ = -1;
  // Children that the peer forks live until this closes.
  int lifeline_ = -1;
  std::string failure_;
  std::string received_;
  UniqueFd descriptor_;  // the last one received
};

}  // namespace tenure::testing

#endif  // TESTS_DRIVER_CONTRACT_PEER_H_

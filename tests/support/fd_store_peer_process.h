// Starts and commands fd_store_peer from a test.
#ifndef TESTS_SUPPORT_FD_STORE_PEER_PROCESS_H_
#define TESTS_SUPPORT_FD_STORE_PEER_PROCESS_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "common/unique_fd.h"

namespace tenure::testing {

// A supervised fd_store_peer, which its supervisor starts again after each death.
//
// By default the supervisor is the peer's own --keeper. If TENURE_PEER_FOLDER is set, it names the
// folder of a peer that already runs under another supervisor, such as systemd.
//
// Thread safety: thread-compatible.
class FdStorePeer {
 public:
  // `environment` is for the keeper and the peer; ignored for a peer that already runs.
  explicit FdStorePeer(std::vector<std::string> environment = {});
  // Ends its own keeper. Removes the descriptors that another supervisor holds.
  ~FdStorePeer();
  FdStorePeer(const FdStorePeer&) = delete;
  FdStorePeer& operator=(const FdStorePeer&) = delete;

  // Whether this object started the keeper.
  bool has_own_keeper() const { return keeper_ > 0; }
  // The folder of its own keeper, with the socket of the peer.
  const std::string& folder() const { return folder_; }
  // The process that serves now, and the one that started it.
  pid_t pid() const { return pid_; }
  pid_t supervisor() const;

  // Sends a line without waiting for the answer; returns whether it was sent.
  bool Send(const std::string& line);
  // Sends a line and returns the answer; nullopt when the peer ended instead.
  std::optional<std::string> Tell(const std::string& line);
  // Sends SIGKILL to the peer.
  void Kill();
  // Waits until a new process serves. Aborts the test when none does.
  void AwaitNext();

  // Waits for the end of its own keeper; returns its exit code.
  int WaitForKeeper();

 private:
  bool Connect();

  std::string folder_;
  bool own_folder_ = false;
  pid_t keeper_ = -1;
  pid_t pid_ = -1;
  UniqueFd connection_;
  std::string pending_;
};

// The number of open descriptors of a process, and of those that are memory of a peer.
int CountFds(pid_t pid);
int CountPeerMemory(pid_t pid);

}  // namespace tenure::testing

#endif  // TESTS_SUPPORT_FD_STORE_PEER_PROCESS_H_

// The test's end of fd_store_peer.
#ifndef TESTS_SUPPORT_FD_STORE_PEER_PROCESS_H_
#define TESTS_SUPPORT_FD_STORE_PEER_PROCESS_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "common/unique_fd.h"

namespace tenure::testing {

// A supervised fd_store_peer, whoever supervises it, through all of its lives.
//
// By default its supervisor is its own --keeper. Where TENURE_PEER_FOLDER names the folder of a
// peer that runs already, systemd's or anybody's, it is that one.
//
// Thread safety: thread-compatible.
class FdStorePeer {
 public:
  // `environment` is for the keeper and the peer; ignored for one that runs already.
  explicit FdStorePeer(std::vector<std::string> environment = {});
  // Ends a keeper of its own. What another supervisor keeps is removed.
  ~FdStorePeer();
  FdStorePeer(const FdStorePeer&) = delete;
  FdStorePeer& operator=(const FdStorePeer&) = delete;

  // Whether the keeper is this project's, started for this object.
  bool has_own_keeper() const { return keeper_ > 0; }
  // Where a keeper of its own made its folder, and the peer its socket.
  const std::string& folder() const { return folder_; }
  // The process that serves now, and the one that started it.
  pid_t pid() const { return pid_; }
  pid_t supervisor() const;

  // Sends a line, and waits for no answer. Whether it went out.
  bool Send(const std::string& line);
  // Sends a line and returns the answer; nullopt when the peer ended instead.
  std::optional<std::string> Tell(const std::string& line);
  // SIGKILL, and what comes with the next life.
  void Kill();
  // Waits until another process serves than the one that did. Aborts the test when none comes.
  void AwaitNext();

  // The end of a keeper of its own: its exit code.
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

// How many descriptors a process has open, and how many of them are memory of a peer.
int CountFds(pid_t pid);
int CountPeerMemory(pid_t pid);

}  // namespace tenure::testing

#endif  // TESTS_SUPPORT_FD_STORE_PEER_PROCESS_H_

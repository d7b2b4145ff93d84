// Accepts connections on a unix socket and learns which process made each of them.
#ifndef SERVER_TRANSPORT_LISTENER_H_
#define SERVER_TRANSPORT_LISTENER_H_

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "common/clock.h"
#include "common/unique_fd.h"
#include "server/transport/allow_list.h"
#include "server/transport/connection_table.h"

namespace tenure::server {

// Accepts connections and asks the kernel two questions about each, before any byte of it is read:
// which process connected (SO_PEERCRED, SO_PEERPIDFD), and which process wrote the first bytes
// (SCM_CREDENTIALS). Both must be the same process. A socket that was passed to another process, or
// inherited by a child, is therefore refused. For gRPC's connections the socket gate checks the
// writer of all later bytes.
//
// gRPC's own listener is not used: it does not say which process connected, and it accepts nothing
// more after one accept(2) that failed for want of descriptors.
//
// Owns: the socket file, the accepting thread, connections that have sent nothing yet.
// Borrows: the connection table and the clock.
// Thread safety: Start and Stop are called by one thread. The handler and on_tick run on the
// listener's thread, and no lock is held while they do.
// Source: unix(7), accept(2).
class Listener {
 public:
  // A connection over which the first bytes have come. They are still in the socket.
  struct Accepted {
    UniqueFd socket;
    ConnectionTable::Caller caller;
    ConnectionPermit permit;
  };
  using Handler = std::function<void(Accepted)>;

  struct Options {
    std::string path;
    // A connection that sends nothing for so long is closed.
    absl::Duration first_bytes_timeout = absl::Seconds(2);
    // Processes of other users get PERMISSION_DENIED as their caller.
    AllowList allowed = {};
    // Called for each process that is not served: its uid and the reason. On the listener's thread.
    std::function<void(uid_t, const absl::Status&)> on_turned_away = [](uid_t, const auto&) {};
    // Called about five times a second.
    std::function<void()> on_tick = [] {};
  };

  // Binds the socket with mode 0660. Makes its folder where that is missing, and replaces a socket
  // file on which no process listens any more. From Start on, a socket file that somebody has
  // removed or replaced is noticed within a second and, unless another process listens there by
  // now, made again.
  // Errors: ALREADY_EXISTS: another process listens there, or the path is not a socket.
  // INVALID_ARGUMENT: the path is empty or too long for a socket. As MakeRuntimeFolder.
  static absl::StatusOr<std::unique_ptr<Listener>> Bind(ConnectionTable& table, const Clock& clock,
                                                        Options options);
  // Stops, and removes the socket file if it is still the one that this listener made.
  ~Listener();

  // Starts the thread. It calls `handler` for each connection.
  void Start(Handler handler);
  // Accepts nothing more, and returns when the thread has ended. Idempotent.
  void Stop();
  // Removes the socket file if it is still the one that this listener made. REQUIRES: stopped.
  void RemoveFile();

  const std::string& path() const { return options_.path; }

 private:
  // A connection that was accepted and has sent nothing yet.
  struct Silent {
    UniqueFd socket;
    ConnectionPermit permit;
    BootTime since;
  };

  // A socket that listens, and the file that leads to it.
  struct Bound {
    UniqueFd socket;
    dev_t device = 0;
    ino_t inode = 0;
  };

  Listener(ConnectionTable& table, const Clock& clock, Options options, Bound bound, UniqueFd epoll,
           UniqueFd wake);
  static absl::StatusOr<Bound> BindFile(const std::string& path);

  void Run();
  // Whether connections to this socket wake the thread from now on.
  bool Watch(const UniqueFd& socket) const;
  bool OwnsFile() const;
  // Makes a socket file that somebody has removed again.
  void CheckFile();
  void AcceptAll();
  absl::StatusOr<ConnectionPermit> PermitCaller(int socket);
  // Whether accept(2) may be tried again at once after this error.
  bool MayRetryAccept(int error);
  void HandleFirstBytes(int socket);
  void CloseSilent();

  ConnectionTable& table_;
  const Clock& clock_;
  const Options options_;
  Bound bound_;
  const UniqueFd epoll_;
  const UniqueFd wake_;  // written by Stop
  Handler handler_;

  // Used by the thread only.
  UniqueFd reserve_;  // a descriptor to give up when the process has no other left
  absl::flat_hash_map<int, Silent> silent_;
  BootTime next_file_check_;
  // Why the file could not be made again; logged when it changes.
  std::string file_trouble_;

  std::thread thread_;
};

}  // namespace tenure::server

#endif  // SERVER_TRANSPORT_LISTENER_H_

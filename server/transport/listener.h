// The daemon's front door.
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

// Accepts connections on a unix socket and learns from the kernel who is calling before anybody
// else reads a byte: who connected (SO_PEERCRED, SO_PEERPIDFD) and who wrote the first bytes
// (SCM_CREDENTIALS) must be the same process, so a socket that was passed on or inherited gives
// nothing; for gRPC's connections the socket gate goes on looking at who writes. gRPC's own
// listener tells nobody who the peer is, and falls silent for ever after one failed accept.
//
// Owns: the socket file, the accepting thread, connections that have not written yet.
// Borrows: table and clock.
// Thread safety: Start and Stop from one thread.
// Source: unix(7), accept(2).
class Listener {
 public:
  // A connection over which something has come.
  struct Arrival {
    UniqueFd socket;
    ConnectionTable::Caller caller;
    ConnectionTicket ticket;  // its place among its tenant's connections
  };
  using Adopt = std::function<void(Arrival)>;

  struct Options {
    std::string path;
    // How long a new connection may stay silent.
    absl::Duration first_bytes_timeout = absl::Seconds(2);
    // Whom to serve. Beside these, always: root and the daemon's own user.
    AllowList allowed = {};
    // Called on the thread every now and then.
    std::function<void()> on_look = [] {};
  };

  // Binds the socket: mode 0660, its folder is made where missing. ALREADY_EXISTS: somebody listens
  // there, or the path is something else than a socket. A socket file that nobody listens on any
  // more is replaced.
  static absl::StatusOr<std::unique_ptr<Listener>> Bind(ConnectionTable& table, const Clock& clock,
                                                        Options options);
  // Stops, and removes the socket file.
  ~Listener();

  void Start(Adopt adopt);
  // Accepts nothing more; returns when the thread is gone. Idempotent.
  void Stop();

  const std::string& path() const { return options_.path; }

 private:
  Listener(ConnectionTable& table, const Clock& clock, Options options, UniqueFd socket,
           UniqueFd epoll, UniqueFd wake);

  void Run();
  void AcceptAll();
  void Examine(int socket);
  void DropSilent();
  absl::StatusOr<ConnectionTicket> AdmitCaller(int socket);
  bool AcceptFailed(int error);

  ConnectionTable& table_;
  const Clock& clock_;
  const Options options_;
  UniqueFd socket_;
  const UniqueFd epoll_;
  const UniqueFd wake_;
  // Given up for a moment when the process runs out of descriptors, so that a caller can be turned
  // away.
  UniqueFd reserve_;
  Adopt adopt_;
  // Accepted, silent so far: when they came. Only the thread touches it.
  struct Newcomer {
    UniqueFd socket;
    ConnectionTicket ticket;
    BootTime since;
  };
  absl::flat_hash_map<int, Newcomer> newcomers_;
  std::thread thread_;
};

}  // namespace tenure::server

#endif  // SERVER_TRANSPORT_LISTENER_H_

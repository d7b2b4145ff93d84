// Which process is behind which connection.
#ifndef SERVER_TRANSPORT_CONNECTION_TABLE_H_
#define SERVER_TRANSPORT_CONNECTION_TABLE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/clock.h"
#include "server/identity/peer.h"
#include "server/transport/connection.h"

namespace tenure::server {

// The connections by the socket's number: gRPC names an adopted connection "fd:N" and keeps that
// number open as long as a handler of that connection runs.
//
// Owns: the connections' records; not the sockets.
// Borrows: the clock.
// Thread safety: thread-safe.
class ConnectionTable {
 public:
  using Caller = Connection::Caller;

  struct Options {
    // Sockets have numbers below this.
    int descriptors = 1024;
    int max_tenant_connections = 4096;
    double tenant_requests_per_second = 100'000;
    // How long a client may leave unread what fills its socket.
    absl::Duration patience = absl::Milliseconds(500);
    // Told about each connection that is cut, and why. May be called on any thread.
    std::function<void(const Connection&, const absl::Status&)> on_cut = nullptr;
  };

  ConnectionTable(const Clock& clock, Options options);

  // The right to one more connection of this user. RESOURCE_EXHAUSTED: it has as many as it may, or
  // the daemon as many as it has descriptors for.
  absl::StatusOr<ConnectionTicket> Admit(uid_t uid);
  // Before the socket is handed to gRPC.
  void Enter(int socket, Caller caller, ConnectionTicket ticket);
  // gRPC is about to close the socket. Called for every number; most are no connections.
  void NoteClosing(int socket);

  // The caller on a connection that gRPC calls `peer`, for one request. RESOURCE_EXHAUSTED: its
  // user makes too many. INTERNAL for a connection that did not come through our listener.
  Caller Find(absl::string_view peer);

  // The connection that gRPC reads from or writes to, valid until NoteClosing; null for other
  // sockets.
  Connection* Serving(int socket) const {
    const size_t index = static_cast<size_t>(socket);
    return index < by_socket_.size() ? by_socket_[index].load(std::memory_order_acquire) : nullptr;
  }
  void Cut(Connection& connection, const absl::Status& why);
  // Cuts those that leave their answers unread, and forgets what processes did long ago.
  void CutStuck();

  // Whether the process has any connection.
  bool IsConnected(const ProcessKey& process) const;
  size_t size() const;
  // How many were cut.
  uint64_t cut() const { return cut_.load(std::memory_order_relaxed); }
  const Clock& clock() const { return clock_; }

 private:
  // A process with connections. All of them share one Peer, and so one pidfd.
  struct Process {
    std::shared_ptr<const Peer> peer;
    uint64_t connections = 0;
  };

  std::shared_ptr<TenantLoad> LoadOf(uid_t uid) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Clock& clock_;
  const Options options_;

  mutable absl::Mutex mu_;
  absl::flat_hash_map<int, std::shared_ptr<Connection>> connections_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<ProcessKey, Process> processes_ ABSL_GUARDED_BY(mu_);
  // What each process may still take back. Outlives its connections, so that who is cut for it does
  // not begin anew with the next one.
  absl::flat_hash_map<ProcessKey, std::shared_ptr<TokenBucket>> resets_ ABSL_GUARDED_BY(mu_);
  // By user; there are few, so none is ever forgotten.
  absl::flat_hash_map<uid_t, std::shared_ptr<TenantLoad>> loads_ ABSL_GUARDED_BY(mu_);
  // The same connections, for the reading threads, who take no lock for each read.
  std::vector<std::atomic<Connection*>> by_socket_;
  std::atomic<uint64_t> cut_ = 0;
};

}  // namespace tenure::server

#endif  // SERVER_TRANSPORT_CONNECTION_TABLE_H_

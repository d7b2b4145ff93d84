// All connections of the daemon, and the process behind each of them.
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

// The connections by the number of their socket. gRPC names a connection that it was handed as a
// socket "fd:N", and keeps that number open as long as a handler of the connection runs.
//
// Invariants:
//   1. connections_ and by_socket_ hold the same connections.
//   2. processes_ holds a process exactly as long as one of its connections is in the table.
// Owns: the records of the connections, not their sockets.
// Borrows: the clock.
// Thread safety: thread-safe. Lock order: mu_, then Connection::mu_ of one connection. on_cut runs
// under neither.
class ConnectionTable {
 public:
  using Caller = Connection::Caller;

  struct Options {
    // Sockets have numbers below this: the limit of open files, whatever else holds some of them.
    int descriptors = 1024;
    // How many of them connections and the processes behind them may hold.
    int max_descriptors = 1024;
    int max_tenant_connections = 4096;
    double tenant_requests_per_second = 100'000;
    // How long the socket of a client may stay full because the client does not read.
    absl::Duration patience = absl::Milliseconds(500);
    // Called for each connection that is cut, with the reason, on any thread.
    std::function<void(const Connection&, const absl::Status&)> on_cut = nullptr;
  };

  ConnectionTable(const Clock& clock, Options options);

  // Permits one more connection of this user.
  // Errors: RESOURCE_EXHAUSTED: the user has as many connections as one tenant may have, or the
  // daemon has no descriptor left for another one.
  absl::StatusOr<ConnectionPermit> Permit(uid_t uid) ABSL_LOCKS_EXCLUDED(mu_);
  // Adds a connection. Returns false, and keeps nothing, if its socket's number is beyond
  // `descriptors`: the connection must be refused. REQUIRES: gRPC does not have the socket yet.
  [[nodiscard]] bool Add(int socket, Caller caller, ConnectionPermit permit)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Removes the connection with this socket, if there is one. It is called before each close(2) of
  // the process, and most descriptors are no connections.
  void Remove(int socket) ABSL_LOCKS_EXCLUDED(mu_);

  // The caller of one request, by the name that gRPC gives the connection. Counts the request.
  // Errors: RESOURCE_EXHAUSTED: the tenant sends more requests a second than it may. INTERNAL: the
  // connection did not come from the daemon's listener. Any other error is the one with which the
  // connection itself was refused.
  Caller Find(absl::string_view peer) ABSL_LOCKS_EXCLUDED(mu_);
  // The same for a request that may have been paid for already, which counts nothing.
  // Errors: as Find, without RESOURCE_EXHAUSTED.
  Caller FindPrepaid(absl::string_view peer) const ABSL_LOCKS_EXCLUDED(mu_);
  // Counts such a request after all, once its handler knows that it was not paid for. Cuts the
  // connection when the tenant sends more requests a second than it may.
  void ChargeLater(absl::string_view peer) ABSL_LOCKS_EXCLUDED(mu_);

  // The connection with this socket, or null. Takes no lock: it is called for each read and write.
  // The pointer is valid until Remove, which gRPC's close(2) calls after its last read and write.
  Connection* FindBySocket(int socket) const {
    const size_t index = static_cast<size_t>(socket);
    return index < by_socket_.size() ? by_socket_[index].load(std::memory_order_acquire) : nullptr;
  }
  // Ends a connection, counts it and reports it to on_cut.
  void Cut(Connection& connection, const absl::Status& why) ABSL_LOCKS_EXCLUDED(mu_);
  // Cuts each connection whose client has left its answers unread for `patience`, and drops the
  // reset counts that are full again and that no connection uses. To be called a few times a
  // second.
  void CutStuck() ABSL_LOCKS_EXCLUDED(mu_);

  // Whether the process has any connection.
  bool IsConnected(const ProcessKey& process) const ABSL_LOCKS_EXCLUDED(mu_);
  size_t size() const ABSL_LOCKS_EXCLUDED(mu_);
  // How many connections were cut since the start.
  uint64_t cut() const { return cut_.load(std::memory_order_relaxed); }
  const Clock& clock() const { return clock_; }

 private:
  // A process with connections. All of them share one Peer, and so one pidfd.
  struct Process {
    std::shared_ptr<const Peer> peer;
    uint64_t connections = 0;
  };

  // Null when the connection did not come from the daemon's listener.
  std::shared_ptr<Connection> FindByName(absl::string_view peer) const ABSL_LOCKS_EXCLUDED(mu_);
  // REQUIRES: the connection's caller is known.
  absl::Status TooManyRequests(const Connection& connection) const;
  std::shared_ptr<TenantLoad> LoadOf(uid_t uid) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Makes `caller` share the Peer of its process's other connections, and counts this connection.
  void AddToProcess(Caller& caller) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::shared_ptr<TokenBucket> ResetsOf(const Caller& caller) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const Clock& clock_;
  const Options options_;

  // Guards both invariants. It is held for look-ups and changes of the maps only.
  mutable absl::Mutex mu_;
  absl::flat_hash_map<int, std::shared_ptr<Connection>> connections_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<ProcessKey, Process> processes_ ABSL_GUARDED_BY(mu_);
  // How many more requests each process may reset. An entry outlives the connections of its
  // process, so that a client that was cut does not get a new allowance by connecting again.
  absl::flat_hash_map<ProcessKey, std::shared_ptr<TokenBucket>> resets_ ABSL_GUARDED_BY(mu_);
  // By user. An entry is never removed, because a host has few users.
  absl::flat_hash_map<uid_t, std::shared_ptr<TenantLoad>> loads_ ABSL_GUARDED_BY(mu_);

  // The connections once more, for FindBySocket. Written under mu_.
  std::vector<std::atomic<Connection*>> by_socket_;
  std::atomic<uint64_t> cut_ = 0;
};

}  // namespace tenure::server

#endif  // SERVER_TRANSPORT_CONNECTION_TABLE_H_

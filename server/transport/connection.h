// One client's connection, from its acceptance until gRPC closes the socket.
#ifndef SERVER_TRANSPORT_CONNECTION_H_
#define SERVER_TRANSPORT_CONNECTION_H_

#include <sys/socket.h>
#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"

#include "common/clock.h"
#include "server/identity/peer.h"
#include "server/transport/frame_meter.h"
#include "server/transport/token_bucket.h"

namespace tenure::server {

// What one tenant asks of the daemon's attention. Thread safety: thread-safe.
struct TenantLoad {
  explicit TenantLoad(double requests_per_second)
      : requests(requests_per_second, requests_per_second) {}
  std::atomic<int> connections = 0;
  TokenBucket requests;
};

// A tenant's claim on one connection; gives it back when it goes. Thread safety: thread-compatible.
class ConnectionTicket {
 public:
  ConnectionTicket() = default;
  // `load` counts the connection already.
  explicit ConnectionTicket(std::shared_ptr<TenantLoad> load) : load_(std::move(load)) {}
  ConnectionTicket(ConnectionTicket&& other) noexcept = default;
  ConnectionTicket& operator=(ConnectionTicket&&) = delete;
  ~ConnectionTicket() {
    if (load_ != nullptr) load_->connections.fetch_sub(1, std::memory_order_relaxed);
  }
  TenantLoad& load() const { return *load_; }

 private:
  std::shared_ptr<TenantLoad> load_;
};

// Who is at the other end, and whether what comes from there may reach gRPC.
//
// Borrows: the socket, which gRPC closes; NoteClosed tells. Until then its number means this
// connection and no other.
// Thread safety: OnRead from one thread at a time; the rest thread-safe.
class Connection {
 public:
  // A process, or why nobody is served: what every call on this connection will get.
  using Caller = absl::StatusOr<std::shared_ptr<const Peer>>;

  // `resets`: as FrameMeter.
  Connection(int socket, Caller caller, ConnectionTicket ticket,
             std::shared_ptr<TokenBucket> resets)
      : socket_(socket),
        caller_(std::move(caller)),
        ticket_(std::move(ticket)),
        meter_(std::move(resets)) {}

  int socket() const { return socket_; }
  const Caller& caller() const { return caller_; }
  TenantLoad& load() const { return ticket_.load(); }

  // Bytes were read, the first `length` of `buffers`, written by `writer`, null when the kernel
  // does not say. PERMISSION_DENIED: they are another process's than the one that connected, or of
  // a user that it was not then. Otherwise as FrameMeter. After an error the connection is to be
  // cut.
  absl::Status OnRead(absl::Span<const iovec> buffers, size_t length, const ucred* writer,
                      BootTime now);

  // A write was tried, and all of it went into the socket, or not all of it.
  void OnWritten(bool all, BootTime now) ABSL_LOCKS_EXCLUDED(mu_);

  // Ends the connection under gRPC's hands, in both directions. Idempotent.
  void Cut() ABSL_LOCKS_EXCLUDED(mu_);
  void NoteClosed() ABSL_LOCKS_EXCLUDED(mu_);

  // Whether the client has left unread for `patience` what fills its socket.
  bool IsStuck(BootTime now, absl::Duration patience) const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  absl::Status CheckWriter(const ucred* writer) const;
  // A client that leaves its answers unread may not ask for more and more.
  absl::Status CheckUnread(size_t length);

  const int socket_;
  const Caller caller_;
  const ConnectionTicket ticket_;
  FrameMeter meter_;  // touched by the reading thread only

  // While a write is stuck: what came meanwhile.
  size_t read_while_stuck_ = 0;  // touched by the reading thread only
  std::atomic<bool> stuck_ = false;

  // Guards what the socket's number means.
  mutable absl::Mutex mu_;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  BootTime stuck_since_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tenure::server

#endif  // SERVER_TRANSPORT_CONNECTION_H_

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

// How many connections one tenant has, and how fast it may send requests over all of them.
// Thread safety: thread-safe.
struct TenantLoad {
  explicit TenantLoad(double requests_per_second)
      : requests(requests_per_second, requests_per_second) {}
  std::atomic<int> connections = 0;
  TokenBucket requests;
};

// The permit for one connection of a tenant. Its destruction makes room for another connection.
// Thread safety: thread-compatible.
class ConnectionPermit {
 public:
  ConnectionPermit() = default;
  // REQUIRES: `load` has counted the connection already.
  explicit ConnectionPermit(std::shared_ptr<TenantLoad> load) : load_(std::move(load)) {}
  ConnectionPermit(ConnectionPermit&& other) noexcept = default;
  ConnectionPermit& operator=(ConnectionPermit&&) = delete;
  ~ConnectionPermit() {
    if (load_ != nullptr) load_->connections.fetch_sub(1, std::memory_order_relaxed);
  }
  TenantLoad& load() const { return *load_; }

 private:
  std::shared_ptr<TenantLoad> load_;
};

// The process at the other end of a connection, and the checks that bytes from there must pass
// before gRPC reads them.
//
// Borrows: the socket, which gRPC closes. Until NoteClosed, the number of the socket means this
// connection and no other.
// Thread safety: OnRead is called by one thread at a time; everything else is thread-safe. The
// mutex is a leaf: no other lock is taken under it. ConnectionTable takes it under its own.
class Connection {
 public:
  // The process that connected, or the error that every call on this connection gets.
  using Caller = absl::StatusOr<std::shared_ptr<const Peer>>;

  // `resets`: see FrameMeter.
  Connection(int socket, Caller caller, ConnectionPermit permit,
             std::shared_ptr<TokenBucket> resets)
      : socket_(socket),
        caller_(std::move(caller)),
        permit_(std::move(permit)),
        meter_(std::move(resets)) {}

  int socket() const { return socket_; }
  const Caller& caller() const { return caller_; }
  TenantLoad& load() const { return permit_.load(); }

  // Checks bytes that were read from the socket: the first `length` bytes of `buffers`. `writer` is
  // the process that wrote them, or null when the kernel does not name it. After an error the
  // connection must be cut.
  // Errors: PERMISSION_DENIED: the writer is another process than the one that connected, or has
  // changed its user or group since. RESOURCE_EXHAUSTED: the client sends more requests without
  // reading its answers. Otherwise as FrameMeter.
  absl::Status OnRead(absl::Span<const iovec> buffers, size_t length, const ucred* writer,
                      BootTime now);

  // Records the result of a write: whether all of it fit into the socket.
  void OnWritten(bool all, BootTime now) ABSL_LOCKS_EXCLUDED(mu_);

  // Shuts the connection down in both directions; gRPC then closes the socket. Idempotent.
  void Cut() ABSL_LOCKS_EXCLUDED(mu_);
  // gRPC is about to close the socket.
  void NoteClosed() ABSL_LOCKS_EXCLUDED(mu_);

  // Whether the socket has been full for `patience` because the client does not read its answers.
  bool IsStuck(BootTime now, absl::Duration patience) const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  absl::Status CheckWriter(const ucred* writer) const;
  // Limits how much a client may send while it leaves its answers unread.
  absl::Status CheckUnread(size_t length);

  const int socket_;
  const Caller caller_;
  const ConnectionPermit permit_;

  // Used by the reading thread only.
  FrameMeter meter_;
  size_t read_while_stuck_ = 0;  // bytes read since the last write stopped short

  // Whether the last write did not fit into the socket. Written under mu_, read without it.
  std::atomic<bool> stuck_ = false;

  // Guards the meaning of the socket's number: under this lock, and while closed_ is false, the
  // number is this connection.
  mutable absl::Mutex mu_;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  BootTime stuck_since_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tenure::server

#endif  // SERVER_TRANSPORT_CONNECTION_H_

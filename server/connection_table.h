// Which process is behind which connection.
#ifndef SERVER_CONNECTION_TABLE_H_
#define SERVER_CONNECTION_TABLE_H_

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "server/peer.h"

namespace tenure::server {

// Peers by the socket's number. gRPC names an adopted connection "fd:N" and does not let the number
// be used again while a handler of that connection runs, so an entry is replaced when the number
// comes again, not removed before.
//
// Thread safety: thread-safe.
class ConnectionTable {
 public:
  using Caller = absl::StatusOr<std::shared_ptr<const Peer>>;

  // Before the socket is handed to gRPC. An error is what every call on this connection will get.
  void Enter(int socket, Caller caller);
  // The caller on a connection that gRPC calls `peer`. INTERNAL for one that did not come through
  // our listener.
  Caller Find(absl::string_view peer) const;

 private:
  // Either a process, or why nobody is served.
  struct Entry {
    std::shared_ptr<const Peer> peer;
    absl::Status refusal;
  };

  mutable absl::Mutex mu_;
  absl::flat_hash_map<int, Entry> entries_ ABSL_GUARDED_BY(mu_);
};

}  // namespace tenure::server

#endif  // SERVER_CONNECTION_TABLE_H_

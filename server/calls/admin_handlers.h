// The handlers of tenure.v1.Admin.
#ifndef SERVER_CALLS_ADMIN_HANDLERS_H_
#define SERVER_CALLS_ADMIN_HANDLERS_H_

#include <functional>
#include <utility>

#include "absl/status/status.h"

#include "server/identity/peer.h"
#include "server/leases/lease_registry.h"
#include "server/memory/device_heap.h"
#include "tenure/v1/admin.pb.h"

namespace tenure::server {

// Do the work of an operator: return unused memory to the driver, kill a session's process, drain.
//
// Borrows: everything in Parts.
// Thread safety: thread-safe.
// Errors: PERMISSION_DENIED: the caller is neither root nor the daemon's own user.
class AdminHandlers {
 public:
  struct Parts {
    LeaseRegistry& registry;
    DeviceHeap& heap;
    // Makes the daemon exit when its last session has ended.
    std::function<void()> drain;
  };

  explicit AdminHandlers(Parts parts) : parts_(std::move(parts)) {}

  // Every handler checks this itself, so that no service can forget it.
  static absl::Status CheckOperator(const Peer& caller);
  // May wait for the driver.
  absl::Status Trim(const Peer& caller, const v1::TrimRequest& request, v1::TrimResponse& response);
  absl::Status Revoke(const Peer& caller, const v1::RevokeRequest& request,
                      v1::RevokeResponse& response);
  absl::Status Drain(const Peer& caller, const v1::DrainRequest& request,
                     v1::DrainResponse& response);

 private:
  const Parts parts_;
};

}  // namespace tenure::server

#endif  // SERVER_CALLS_ADMIN_HANDLERS_H_

// One driver allocation with its export: the unit of mapping, of ownership and of proof.
#ifndef SERVER_REGION_H_
#define SERVER_REGION_H_

#include <utility>

#include "common/bytes.h"
#include "common/check.h"
#include "common/cuda/device.h"
#include "server/ids.h"
#include "server/peer.h"

namespace tenure::server {

inline constexpr Bytes kRegionUnit = MiB(2);

// A region in somebody's hands. Made and ended only by the DeviceHeap.
//
// Invariants: whoever holds it gives it back to the DeviceHeap; dropping one is a bug and aborts.
// Thread safety: thread-compatible.
class Region {
 public:
  Region(RegionId id, cuda::DevicePointer base, Bytes size, const cuda::IpcHandle& handle)
      : id_(id), base_(base), size_(size), handle_(handle) {}
  Region(Region&& other) noexcept
      : id_(other.id_),
        base_(std::exchange(other.base_, 0)),
        size_(other.size_),
        handle_(other.handle_),
        tenant_(other.tenant_),
        shared_in_tenant_(other.shared_in_tenant_) {}
  Region& operator=(Region&& other) noexcept {
    TENURE_CHECK(base_ == 0);
    id_ = other.id_;
    base_ = std::exchange(other.base_, 0);
    size_ = other.size_;
    handle_ = other.handle_;
    tenant_ = other.tenant_;
    shared_in_tenant_ = other.shared_in_tenant_;
    return *this;
  }
  ~Region() { TENURE_CHECK(base_ == 0); }

  RegionId id() const { return id_; }
  cuda::DevicePointer base() const { return base_; }
  Bytes size() const { return size_; }
  const cuda::IpcHandle& handle() const { return handle_; }

  // Whose session has it, or had it last: the tenant on whose account it is until it comes back.
  Tenant tenant() const { return tenant_; }

  // Whether a session that had it was not proven gone: then it stays with that tenant until it goes
  // back to the driver, which isolates by itself.
  bool shared_in_tenant() const { return shared_in_tenant_; }

 private:
  friend class DeviceHeap;
  // The driver has the memory back; the region is over.
  void Forget() { base_ = 0; }

  RegionId id_;
  cuda::DevicePointer base_;
  Bytes size_;
  cuda::IpcHandle handle_;
  Tenant tenant_;
  bool shared_in_tenant_ = false;
};

}  // namespace tenure::server

#endif  // SERVER_REGION_H_

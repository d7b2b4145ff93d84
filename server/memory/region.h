// One driver allocation with its export: the unit of mapping, of ownership and of proof.
#ifndef SERVER_MEMORY_REGION_H_
#define SERVER_MEMORY_REGION_H_

#include <utility>
#include <variant>

#include "common/bytes.h"
#include "common/check.h"
#include "common/cuda/device.h"
#include "common/cuda/vmm.h"
#include "common/memory_kind.h"
#include "common/unique_fd.h"
#include "server/identity/ids.h"
#include "server/identity/peer.h"

namespace tenure::server {

inline constexpr Bytes kRegionUnit = MiB(2);

// Memory of cuMemAlloc, and the handle that opens it.
struct IpcMemory {
  cuda::DevicePointer base = 0;
  cuda::IpcHandle handle;
};

// Memory of cuMemCreate, mapped here, and the descriptor that others map it by. What was imported
// cannot be exported again, so whoever passes it on passes a copy of this descriptor.
struct ExportedVmm {
  cuda::VmmMemory memory;
  UniqueFd fd;
};

// A region in somebody's hands. Made and ended only by the DeviceHeap.
//
// Invariants: whoever holds it gives it back to the DeviceHeap; dropping one is a bug and aborts.
// Thread safety: thread-compatible.
class Region {
 public:
  using Memory = std::variant<std::monostate, IpcMemory, ExportedVmm>;

  Region(RegionId id, Bytes size, Memory memory)
      : id_(id), size_(size), memory_(std::move(memory)) {}
  Region(Region&& other) noexcept
      : id_(other.id_),
        size_(other.size_),
        memory_(std::exchange(other.memory_, std::monostate())),
        tenant_(other.tenant_),
        shared_in_tenant_(other.shared_in_tenant_) {}
  Region& operator=(Region&& other) noexcept {
    TENURE_CHECK(over());
    id_ = other.id_;
    size_ = other.size_;
    memory_ = std::exchange(other.memory_, std::monostate());
    tenant_ = other.tenant_;
    shared_in_tenant_ = other.shared_in_tenant_;
    return *this;
  }
  ~Region() { TENURE_CHECK(over()); }

  RegionId id() const { return id_; }
  Bytes size() const { return size_; }
  MemoryKind kind() const {
    return std::holds_alternative<ExportedVmm>(memory_) ? MemoryKind::kVmmFd : MemoryKind::kCudaIpc;
  }
  cuda::DevicePointer base() const {
    if (const auto* const vmm = std::get_if<ExportedVmm>(&memory_)) return vmm->memory.base;
    return std::get<IpcMemory>(memory_).base;
  }
  // Of kind CUDA_IPC.
  const cuda::IpcHandle& handle() const { return std::get<IpcMemory>(memory_).handle; }
  // Of kind VMM_FD.
  const ExportedVmm& vmm() const { return std::get<ExportedVmm>(memory_); }

  // Whose session has it, or had it last: the tenant on whose account it is until it comes back.
  Tenant tenant() const { return tenant_; }

  // Whether a session that had it was not proven gone: then it stays with that tenant until it goes
  // back to the driver, which isolates by itself.
  bool shared_in_tenant() const { return shared_in_tenant_; }

 private:
  friend class DeviceHeap;
  bool over() const { return std::holds_alternative<std::monostate>(memory_); }
  // The driver has the memory back; the region is over.
  void Forget() { memory_ = std::monostate(); }

  RegionId id_;
  Bytes size_;
  Memory memory_;
  Tenant tenant_;
  bool shared_in_tenant_ = false;
};

}  // namespace tenure::server

#endif  // SERVER_MEMORY_REGION_H_

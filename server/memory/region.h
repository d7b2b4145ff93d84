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

// Memory of cuMemCreate, mapped into the daemon, and the descriptor by which clients map it.
// Imported memory cannot be exported again, so each client gets a copy of this descriptor.
struct ExportedVmm {
  cuda::VmmMemory memory;
  UniqueFd fd;
};

// One driver allocation and its export. Move-only, so that it has exactly one holder at any time.
// Only the DeviceHeap makes regions, and only the DeviceHeap frees them.
//
// Invariants: a holder returns its region to the DeviceHeap. To destroy a region that still has its
// memory is a bug and aborts.
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
    // The memory that this object had would be lost with it.
    TENURE_CHECK(empty());
    id_ = other.id_;
    size_ = other.size_;
    memory_ = std::exchange(other.memory_, std::monostate());
    tenant_ = other.tenant_;
    shared_in_tenant_ = other.shared_in_tenant_;
    return *this;
  }
  ~Region() { TENURE_CHECK(empty()); }

  RegionId id() const { return id_; }
  Bytes size() const { return size_; }
  MemoryKind kind() const {
    return std::holds_alternative<ExportedVmm>(memory_) ? MemoryKind::kVmmFd : MemoryKind::kCudaIpc;
  }
  cuda::DevicePointer base() const {
    if (const auto* const vmm = std::get_if<ExportedVmm>(&memory_)) return vmm->memory.base;
    return std::get<IpcMemory>(memory_).base;
  }
  // REQUIRES: kind CUDA_IPC.
  const cuda::IpcHandle& handle() const { return std::get<IpcMemory>(memory_).handle; }
  // REQUIRES: kind VMM_FD.
  const ExportedVmm& vmm() const { return std::get<ExportedVmm>(memory_); }

  // The tenant whose session has it, or had it last. A leased or quarantined region is on this
  // tenant's account.
  Tenant tenant() const { return tenant_; }

  // Whether a session of tenant() returned it while it lived. Nothing proves that this session no
  // longer maps it, so the region serves no other tenant until it is freed to the driver, which
  // never reuses memory that is still mapped. Once true it stays true: a later holder's death says
  // nothing about the earlier one.
  bool shared_in_tenant() const { return shared_in_tenant_; }

 private:
  friend class DeviceHeap;    // says which tenant has it
  friend class RegionDriver;  // frees it
  // Whether it has no memory: it was moved from, or freed.
  bool empty() const { return std::holds_alternative<std::monostate>(memory_); }
  // The driver has the memory again, or will have it when this process ends.
  void MarkFreed() { memory_ = std::monostate(); }

  RegionId id_;
  Bytes size_;
  Memory memory_;
  Tenant tenant_;
  bool shared_in_tenant_ = false;
};

}  // namespace tenure::server

#endif  // SERVER_MEMORY_REGION_H_

// The emulated devices and their contexts, as one process sees them.
#ifndef COMMON_CUDA_EMULATED_DEVICES_H_
#define COMMON_CUDA_EMULATED_DEVICES_H_

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <cuda.h>

#include "common/cuda/emulated/card.h"
#include "common/cuda/emulated/device_memory.h"
#include "common/cuda/emulated/faults.h"
#include "common/cuda/emulated/virtual_memory.h"

// cuda.h only declares these two; each driver defines them.
struct CUstream_st {};

// The primary context of a device, and everything that this process has there.
struct CUctx_st {
  CUctx_st(int device_ordinal, const std::string& device_folder,
           std::unique_ptr<tenure::cuda::emulated::Card> device_card);

  const int ordinal;
  const CUuuid uuid;
  const std::string uuid_text;  // "GPU-" and 36 characters
  const std::unique_ptr<tenure::cuda::emulated::Card> card;
  tenure::cuda::emulated::DeviceMemory memory;
  int retained = 0;  // retains of the primary context less its releases
  std::map<CUstream, std::unique_ptr<CUstream_st>> streams;
};

namespace tenure::cuda::emulated {

// All devices of this process, and its memory on them.
// Thread safety: thread-compatible; class Process guards it.
class Devices {
 public:
  // The first call reads the environment and opens the cards. It sets the faults of the environment
  // in `faults`.
  CUresult Attach(Faults& faults);
  // cuInit: attaches, and allows the calls that need cuInit.
  CUresult Initialise(Faults& faults);
  bool attached() const { return attached_; }
  bool initialised() const { return initialised_; }
  // Whether a call whose effect NVIDIA leaves undefined aborts.
  bool strict() const { return strict_; }

  const std::vector<std::unique_ptr<CUctx_st>>& all() const { return all_; }
  // Null where there is none.
  CUctx_st* Find(CUdevice ordinal);
  // The device with the memory of cuMemAlloc that contains `pointer`; null where there is none.
  CUctx_st* FindOwner(CUdeviceptr pointer);
  // The allocation, import or mapping that `pointer` lies in.
  std::optional<MemoryRange> FindRange(CUdeviceptr pointer);
  // Whether these bytes are one allocation's or import's, or of mappings that allow this use.
  bool Allows(Use use, CUdeviceptr pointer, size_t bytes);
  VirtualMemory& virtual_memory() { return virtual_memory_; }
  // Whether a context is one of this process, and whether it is retained.
  bool IsKnown(CUcontext context) const;
  bool IsActive(CUcontext context) const;

  // The last release of a context: frees its memory, its streams and its place on the card.
  void EndContext(CUctx_st& context);
  // At exit: frees this process's memory on the cards. Mappings stay, because threads that exit()
  // leaves running may still copy.
  void ShutDown();

 private:
  std::vector<std::unique_ptr<CUctx_st>> all_;
  VirtualMemory virtual_memory_;
  bool attached_ = false;
  bool initialised_ = false;
  bool strict_ = false;
};

}  // namespace tenure::cuda::emulated

#endif  // COMMON_CUDA_EMULATED_DEVICES_H_

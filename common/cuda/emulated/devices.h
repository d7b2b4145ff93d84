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

// cuda.h only declares these two; a driver says what they are.
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

// The devices as this process sees them.
// Thread safety: thread-compatible; class Process guards it.
class Devices {
 public:
  // Reads the environment and opens the cards, the first time. The environment's faults go to
  // `faults`.
  CUresult Attach(Faults& faults);
  // cuInit: attaches, and allows what needs it.
  CUresult Initialise(Faults& faults);
  bool attached() const { return attached_; }
  bool initialised() const { return initialised_; }
  // Whether what NVIDIA calls undefined is to abort.
  bool strict() const { return strict_; }

  const std::vector<std::unique_ptr<CUctx_st>>& all() const { return all_; }
  // Null where there is none.
  CUctx_st* Find(CUdevice ordinal);
  // The device whose memory of cuMemAlloc `pointer` lies in; null where there is none.
  CUctx_st* FindOwner(CUdeviceptr pointer);
  // The allocation, import or mapping that `pointer` lies in.
  std::optional<MemoryRange> FindRange(CUdeviceptr pointer);
  // Whether these bytes are one allocation's or import's, or of mappings that allow this use.
  bool Allows(Use use, CUdeviceptr pointer, size_t bytes);
  VirtualMemory& virtual_memory() { return virtual_memory_; }
  // Whether a context is one of ours, and whether that is retained.
  bool IsKnown(CUcontext context) const;
  bool IsActive(CUcontext context) const;

  // The last release of a context: its memory, its streams and its place on the card go.
  void EndContext(CUctx_st& context);
  // At exit: leaves nothing behind that another process would have to find. Mappings stay, since
  // threads that exit() leaves running may be copying.
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

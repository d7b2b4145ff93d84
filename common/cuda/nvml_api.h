// The declarations of NVIDIA's Management Library (NVML) that tenure uses.
#ifndef COMMON_CUDA_NVML_API_H_
#define COMMON_CUDA_NVML_API_H_

// The CUDA toolkit's wheels bring no nvml.h, so they are written out here. Names, values and
// layouts are those of NVIDIA's nvml.h (NVML 12 and 13).
extern "C" {

using nvmlReturn_t = int;  // an enum in nvml.h, with these values among others
inline constexpr nvmlReturn_t kNvmlSuccess = 0;
inline constexpr nvmlReturn_t kNvmlUninitialized = 1;
inline constexpr nvmlReturn_t kNvmlInvalidArgument = 2;
inline constexpr nvmlReturn_t kNvmlNoPermission = 4;
inline constexpr nvmlReturn_t kNvmlNotFound = 6;
inline constexpr nvmlReturn_t kNvmlInsufficientSize = 7;
inline constexpr nvmlReturn_t kNvmlDriverNotLoaded = 9;
inline constexpr nvmlReturn_t kNvmlUnknown = 999;

using nvmlDevice_t = struct nvmlDevice_st*;

// As of nvmlDeviceGetComputeRunningProcesses_v2 and _v3.
struct nvmlProcessInfo_t {
  unsigned int pid;
  unsigned long long usedGpuMemory;
  unsigned int gpuInstanceId;      // 0xFFFFFFFF without MIG
  unsigned int computeInstanceId;  // likewise
};

nvmlReturn_t nvmlInit_v2();
nvmlReturn_t nvmlShutdown();
const char* nvmlErrorString(nvmlReturn_t result);
nvmlReturn_t nvmlDeviceGetHandleByUUID(const char* uuid, nvmlDevice_t* device);
// `count`: in: room in `infos`; out: how many there are, also with kNvmlInsufficientSize.
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int* count,
                                                     nvmlProcessInfo_t* infos);

}  // extern "C"

#define TENURE_NVML_SYMBOLS(X) \
  X(nvmlInit_v2)               \
  X(nvmlShutdown)              \
  X(nvmlErrorString)           \
  X(nvmlDeviceGetHandleByUUID) \
  X(nvmlDeviceGetComputeRunningProcesses_v3)

#endif  // COMMON_CUDA_NVML_API_H_

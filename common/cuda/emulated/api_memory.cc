// Entry points: device memory, IPC handles, copies.
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "common/cuda/emulated/process.h"

namespace emulated = tenure::cuda::emulated;
using emulated::Devices;
using emulated::Entry;
using emulated::Use;

namespace {

char* ToAddress(CUdeviceptr pointer) { return reinterpret_cast<char*>(pointer); }

uintptr_t HostPage() { return static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)); }

// Makes the host reserve memory for these bytes now. If they were written while its shared memory
// is full, the process would be killed by SIGBUS.
CUresult Populate(CUdeviceptr pointer, size_t bytes, int advice) {
  const uintptr_t start = pointer / HostPage() * HostPage();
  const int result =
      madvise(reinterpret_cast<void*>(start), static_cast<size_t>(pointer + bytes - start), advice);
  // EINVAL: a kernel before 5.14 cannot do it. The write then works unless the memory is full.
  if (bytes == 0 || result == 0 || errno == EINVAL) return CUDA_SUCCESS;
  std::fprintf(stderr,
               "emulated CUDA driver: the host has no room for the bytes written to the device; "
               "enlarge /dev/shm or name another folder in TENURE_EMULATED_DIR\n");
  return CUDA_ERROR_OPERATING_SYSTEM;
}

CUresult CheckRange(Entry entry, Use use, CUdeviceptr pointer, size_t bytes) {
  return emulated::RunInContext(entry, [&](Devices& devices, CUctx_st&) {
    const bool allowed = bytes == 0 || devices.Allows(use, pointer, bytes);
    return allowed ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

CUresult Fill(CUdeviceptr pointer, unsigned char value, size_t bytes) {
  const CUresult ready = Populate(pointer, bytes, MADV_POPULATE_WRITE);
  if (ready == CUDA_SUCCESS && bytes > 0) std::memset(ToAddress(pointer), value, bytes);
  return ready;
}

// Frees whole pages of the file, which then read as zero and take no memory of the host.
CUresult Clear(CUdeviceptr pointer, size_t bytes) {
  const uintptr_t page = HostPage();
  const CUdeviceptr first = (pointer + page - 1) / page * page;
  const CUdeviceptr last = (pointer + bytes) / page * page;
  // Bytes outside of whole pages are written, and all of them if the file system cannot free pages.
  if (first >= last) return Fill(pointer, 0, bytes);
  if (madvise(ToAddress(first), static_cast<size_t>(last - first), MADV_REMOVE) != 0) {
    return Fill(pointer, 0, bytes);
  }
  const CUresult head = Fill(pointer, 0, static_cast<size_t>(first - pointer));
  return head != CUDA_SUCCESS ? head : Fill(last, 0, static_cast<size_t>(pointer + bytes - last));
}

CUresult Set(Entry entry, CUdeviceptr pointer, unsigned char value, size_t bytes) {
  const CUresult checked = CheckRange(entry, Use::kWrite, pointer, bytes);
  if (checked != CUDA_SUCCESS) return checked;
  return value == 0 ? Clear(pointer, bytes) : Fill(pointer, value, bytes);
}

[[noreturn]] void AbortOnImportedFree() {
  std::fprintf(stderr,
               "emulated CUDA driver: cuMemFree of memory that another process still has mapped. "
               "NVIDIA calls that undefined; aborting because TENURE_EMULATED_STRICT=1\n");
  std::abort();
}

}  // namespace

extern "C" {

CUresult CUDAAPI cuMemGetInfo(size_t* free, size_t* total) {
  return emulated::RunInContext(Entry::cuMemGetInfo, [&](Devices&, CUctx_st& context) {
    *total = context.card->Capacity();
    *free = *total - context.card->Used();
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuMemAlloc(CUdeviceptr* pointer, size_t bytes) {
  return emulated::RunInContext(Entry::cuMemAlloc, [&](Devices&, CUctx_st& context) {
    return pointer != nullptr ? context.memory.Allocate(bytes, pointer) : CUDA_ERROR_INVALID_VALUE;
  });
}

// Needs no current context, unlike the other calls here.
CUresult CUDAAPI cuMemFree(CUdeviceptr pointer) {
  return emulated::Run(Entry::cuMemFree, [&](Devices& devices) {
    // As free(3) does with a null pointer.
    if (pointer == 0) return CUDA_SUCCESS;
    CUctx_st* owner = devices.FindOwner(pointer);
    bool still_imported = false;
    const CUresult result =
        owner != nullptr ? owner->memory.Free(pointer, &still_imported) : CUDA_ERROR_INVALID_VALUE;
    if (still_imported && devices.strict()) AbortOnImportedFree();
    return result;
  });
}

CUresult CUDAAPI cuMemGetAddressRange(CUdeviceptr* base, size_t* size, CUdeviceptr pointer) {
  return emulated::RunInContext(Entry::cuMemGetAddressRange, [&](Devices& devices, CUctx_st&) {
    const std::optional<emulated::MemoryRange> range = devices.FindRange(pointer);
    if (!range) return CUDA_ERROR_NOT_FOUND;
    if (base != nullptr) *base = range->base;
    if (size != nullptr) *size = range->size;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuIpcGetMemHandle(CUipcMemHandle* handle, CUdeviceptr pointer) {
  return emulated::RunInContext(Entry::cuIpcGetMemHandle, [&](Devices& devices, CUctx_st&) {
    CUctx_st* owner = devices.FindOwner(pointer);
    return owner != nullptr ? owner->memory.Export(pointer, handle) : CUDA_ERROR_INVALID_VALUE;
  });
}

CUresult CUDAAPI cuIpcOpenMemHandle(CUdeviceptr* pointer, CUipcMemHandle handle,
                                    unsigned int flags) {
  return emulated::RunInContext(Entry::cuIpcOpenMemHandle, [&](Devices&, CUctx_st& context) {
    if (flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS) return CUDA_ERROR_INVALID_VALUE;
    return context.memory.Import(handle, pointer);
  });
}

CUresult CUDAAPI cuIpcCloseMemHandle(CUdeviceptr pointer) {
  return emulated::RunInContext(Entry::cuIpcCloseMemHandle, [&](Devices& devices, CUctx_st&) {
    CUctx_st* owner = devices.FindOwner(pointer);
    return owner != nullptr ? owner->memory.CloseImport(pointer) : CUDA_ERROR_INVALID_VALUE;
  });
}

CUresult CUDAAPI cuMemcpyHtoD(CUdeviceptr to, const void* from, size_t bytes) {
  const CUresult checked = CheckRange(Entry::cuMemcpyHtoD, Use::kWrite, to, bytes);
  if (checked != CUDA_SUCCESS) return checked;
  const CUresult ready = Populate(to, bytes, MADV_POPULATE_WRITE);
  if (ready == CUDA_SUCCESS && bytes > 0) std::memcpy(ToAddress(to), from, bytes);
  return ready;
}

CUresult CUDAAPI cuMemcpyDtoH(void* to, CUdeviceptr from, size_t bytes) {
  const CUresult checked = CheckRange(Entry::cuMemcpyDtoH, Use::kRead, from, bytes);
  if (checked != CUDA_SUCCESS) return checked;
  const CUresult ready = Populate(from, bytes, MADV_POPULATE_READ);
  if (ready == CUDA_SUCCESS && bytes > 0) std::memcpy(to, ToAddress(from), bytes);
  return ready;
}

CUresult CUDAAPI cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  const CUresult checked =
      emulated::RunInContext(Entry::cuMemcpyDtoD, [&](Devices& devices, CUctx_st&) {
        const bool allowed = bytes == 0 || (devices.Allows(Use::kWrite, to, bytes) &&
                                            devices.Allows(Use::kRead, from, bytes));
        return allowed ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
      });
  if (checked != CUDA_SUCCESS) return checked;
  CUresult ready = Populate(from, bytes, MADV_POPULATE_READ);
  if (ready == CUDA_SUCCESS) ready = Populate(to, bytes, MADV_POPULATE_WRITE);
  if (ready == CUDA_SUCCESS && bytes > 0) std::memmove(ToAddress(to), ToAddress(from), bytes);
  return ready;
}

CUresult CUDAAPI cuMemsetD8(CUdeviceptr pointer, unsigned char value, size_t bytes) {
  return Set(Entry::cuMemsetD8, pointer, value, bytes);
}

// The work is done when the call returns. A stream allows that.
CUresult CUDAAPI cuMemsetD8Async(CUdeviceptr pointer, unsigned char value, size_t bytes, CUstream) {
  return Set(Entry::cuMemsetD8Async, pointer, value, bytes);
}

}  // extern "C"

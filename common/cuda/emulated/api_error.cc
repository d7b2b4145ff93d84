// Entry points: names and descriptions of the errors that this driver answers or that tests use.
#include <algorithm>
#include <array>

#include "common/cuda/emulated/process.h"

namespace emulated = tenure::cuda::emulated;
using emulated::Entry;

namespace {

struct ErrorText {
  CUresult error;
  const char* name;
  const char* words;
};

#define TENURE_EMULATED_ERROR(error, words) \
  ErrorText { error, #error, words }

constexpr auto kErrors = std::to_array<ErrorText>({
    TENURE_EMULATED_ERROR(CUDA_SUCCESS, "no error"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_INVALID_VALUE, "invalid argument"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_NOT_INITIALIZED, "initialization error"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_DEINITIALIZED, "driver shutting down"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_DEVICE_UNAVAILABLE,
                          "CUDA-capable device(s) is/are busy or unavailable"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_INVALID_CONTEXT, "invalid device context"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_ECC_UNCORRECTABLE, "uncorrectable ECC error encountered"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_OPERATING_SYSTEM, "OS call failed or operation not supported"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_ILLEGAL_STATE, "operation not permitted in this state"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_NOT_FOUND, "named symbol not found"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_NOT_READY, "device not ready"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_LAUNCH_TIMEOUT, "the launch timed out and was terminated"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_HARDWARE_STACK_ERROR, "hardware stack error"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_CONTEXT_IS_DESTROYED, "context is destroyed"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_NOT_PERMITTED, "operation not permitted"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_NOT_SUPPORTED, "operation not supported"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_SYSTEM_NOT_READY, "system not yet initialized"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH,
                          "system has unsupported display driver / cuda driver combination"),
    TENURE_EMULATED_ERROR(CUDA_ERROR_UNKNOWN, "unknown error"),
});

const ErrorText* Find(CUresult error) {
  const auto found = std::find_if(kErrors.begin(), kErrors.end(),
                                  [error](const ErrorText& text) { return text.error == error; });
  return found != kErrors.end() ? &*found : nullptr;
}

CUresult Answer(Entry entry, CUresult error, const char* ErrorText::*part, const char** text) {
  return emulated::RunAlways(entry, [&] {
    const ErrorText* found = Find(error);
    *text = found != nullptr ? found->*part : nullptr;
    return found != nullptr ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

}  // namespace

extern "C" {

CUresult CUDAAPI cuGetErrorName(CUresult error, const char** name) {
  return Answer(Entry::cuGetErrorName, error, &ErrorText::name, name);
}

CUresult CUDAAPI cuGetErrorString(CUresult error, const char** words) {
  return Answer(Entry::cuGetErrorString, error, &ErrorText::words, words);
}

}  // extern "C"

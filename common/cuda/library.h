// Opens shared libraries, with error messages that say what to install.
#ifndef COMMON_CUDA_LIBRARY_H_
#define COMMON_CUDA_LIBRARY_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace tenure::cuda {

// Opens `path` as dlopen(3) finds it. The library is never closed, because drivers run threads and
// exit handlers of their own. `remedy` is the part of the error message that says what to do.
// Errors: NOT_FOUND: no such file. FAILED_PRECONDITION: the file is there and cannot be loaded.
absl::StatusOr<void*> OpenLibrary(absl::string_view path, absl::string_view remedy);

// The address of an exported symbol; null where there is none.
void* FindSymbol(void* library, const char* symbol);

}  // namespace tenure::cuda

#endif  // COMMON_CUDA_LIBRARY_H_

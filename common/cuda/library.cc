#include "common/cuda/library.h"

#include <dlfcn.h>
#include <unistd.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tenure::cuda {

absl::StatusOr<void*> OpenLibrary(absl::string_view path, absl::string_view remedy) {
  const std::string file(path);
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library != nullptr) return library;
  const char* reason = dlerror();
  const std::string words = reason != nullptr ? reason : "no reason given";
  // If the library exists and one of its own dependencies is missing, the message of dlerror reads
  // alike. Only the library's own name before "cannot open" means that the library is missing.
  const bool missing = absl::StrContains(file, '/')
                           ? access(file.c_str(), F_OK) != 0
                           : absl::StartsWith(words, absl::StrCat(file, ": cannot open"));
  if (missing) {
    return absl::NotFoundError(absl::StrCat("there is no library '", path, "': ", remedy));
  }
  return absl::FailedPreconditionError(
      absl::StrCat("the library '", path, "' cannot be loaded (", words, "): ", remedy));
}

void* FindSymbol(void* library, const char* symbol) { return dlsym(library, symbol); }

}  // namespace tenure::cuda

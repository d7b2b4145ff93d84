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
  // A library that is there may still lack one of its own dependencies, which reads alike: only the
  // file's own name before "cannot open" means that it is missing itself.
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

#include "common/cuda/driver_path.h"

#include <dlfcn.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include <stdlib.h>

namespace tenure::cuda {
namespace {

constexpr char kEmulatedFile[] = "libtenure_emulated_cuda.so";

// The folder of a file, with symbolic links resolved; "" when there is no such file.
std::string FolderOf(const char* file) {
  char resolved[PATH_MAX];
  if (realpath(file, resolved) == nullptr) return "";
  const std::string path(resolved);
  return path.substr(0, path.rfind('/'));
}

std::string FolderOfThisCode() {
  Dl_info here = {};
  const bool known =
      dladdr(reinterpret_cast<void*>(&ResolveDriver), &here) != 0 && here.dli_fname != nullptr;
  return known ? FolderOf(here.dli_fname) : "";
}

absl::StatusOr<std::string> FindEmulated() {
  const std::string program = FolderOf("/proc/self/exe");
  const std::string library = FolderOfThisCode();
  // A build folder has it beside the program, an installation in ../lib/tenure. A program that
  // links this code as a shared library has it beside that library or below it. A client that lies
  // in a folder of its own finds an installation of the system.
  std::vector<std::string> places = {absl::StrCat(program, "/", kEmulatedFile),
                                     absl::StrCat(program, "/../lib/tenure/", kEmulatedFile)};
  if (!library.empty() && library != program) {
    places.push_back(absl::StrCat(library, "/", kEmulatedFile));
    places.push_back(absl::StrCat(library, "/tenure/", kEmulatedFile));
  }
  for (const char* prefix : {"/usr/local", "/usr"})
    places.push_back(absl::StrCat(prefix, "/lib/tenure/", kEmulatedFile));
  for (const std::string& place : places) {
    if (access(place.c_str(), R_OK) == 0) return place;
  }
  return absl::NotFoundError(
      absl::StrCat("no emulated driver is installed: looked for ", absl::StrJoin(places, ", "),
                   "; name its file instead, as in --driver /path/to/", kEmulatedFile));
}

}  // namespace

absl::StatusOr<std::string> ResolveDriver(absl::string_view name) {
  if (name == "cuda") return std::string("libcuda.so.1");
  if (name == "emulated") return FindEmulated();
  if (absl::StrContains(name, '/')) return std::string(name);
  return absl::InvalidArgumentError(absl::StrCat(
      "'", name, "' names no driver: write cuda, emulated, or a path with a '/' in it"));
}

absl::StatusOr<std::string> ResolveClientDriver(absl::string_view told) {
  const char* preferred = std::getenv("TENURE_DRIVER");
  if (preferred != nullptr && *preferred != '\0') return ResolveDriver(preferred);
  // A library that is loaded runs its code in this process, so that no daemon chooses its path.
  if (told == "cuda" || told == "emulated") return ResolveDriver(told);
  return absl::InvalidArgumentError(
      absl::StrCat("the daemon names '", absl::Utf8SafeCHexEscape(told.substr(0, 100)),
                   "' as its driver, and is trusted with cuda and emulated only; set TENURE_DRIVER "
                   "to the path of the driver's library"));
}

}  // namespace tenure::cuda

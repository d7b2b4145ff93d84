#include "server/transport/runtime_folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/status_macros.h"

namespace tenure::server {
namespace {

absl::Status MakeFolders(const std::filesystem::path& folder) {
  std::filesystem::path made;
  for (const std::filesystem::path& part : folder) {
    made /= part;
    // Not by std::filesystem::create_directories, which leaves the mode to the umask alone.
    if (mkdir(made.c_str(), 0755) != 0 && errno != EEXIST) {
      return absl::ErrnoToStatus(errno, absl::StrCat("cannot make the folder ", made.string()));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckFolder(const std::string& folder) {
  struct stat info = {};
  if (stat(folder.c_str(), &info) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot look at the folder ", folder));
  }
  if (info.st_uid != 0 && info.st_uid != geteuid()) {
    return absl::PermissionDeniedError(absl::StrCat(
        "the folder ", folder, " belongs to uid ", info.st_uid,
        ", who could replace the daemon's sockets; run the daemon as that user, or choose another "
        "--socket"));
  }
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return absl::PermissionDeniedError(absl::StrFormat(
        "other users may write in the folder %s (mode %04o), and could replace the daemon's "
        "sockets; type `chmod go-w %s`, or choose a --socket in a folder of its own",
        folder, info.st_mode & 07777, folder));
  }
  return absl::OkStatus();
}

// Whoever may write in a folder may rename the folders in it, unless it is sticky, as /tmp is.
absl::Status CheckFoldersAbove(const std::filesystem::path& folder) {
  for (std::filesystem::path above = folder.parent_path();; above = above.parent_path()) {
    struct stat info = {};
    if (stat(above.c_str(), &info) == 0 && (info.st_mode & S_IWOTH) != 0 &&
        (info.st_mode & S_ISVTX) == 0) {
      return absl::PermissionDeniedError(absl::StrFormat(
          "every user may write in %s (mode %04o), and could replace the folder of the daemon's "
          "sockets; type `chmod o-w %s`, or choose another --socket",
          above.string(), info.st_mode & 07777, above.string()));
    }
    if (above == above.parent_path()) return absl::OkStatus();
  }
}

}  // namespace

absl::StatusOr<std::string> MakeRuntimeFolder(const std::string& socket_path) {
  const std::filesystem::path folder =
      std::filesystem::absolute(socket_path).lexically_normal().parent_path();
  TENURE_RETURN_IF_ERROR(MakeFolders(folder));
  TENURE_RETURN_IF_ERROR(CheckFolder(folder.string()));
  TENURE_RETURN_IF_ERROR(CheckFoldersAbove(folder));
  return folder.string();
}

}  // namespace tenure::server

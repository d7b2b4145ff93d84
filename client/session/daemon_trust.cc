#include "client/session/daemon_trust.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "common/status_macros.h"

namespace tenure {
namespace {

constexpr mode_t kWritableByOthers = S_IWGRP | S_IWOTH;

// A folder on the way to the socket, or, as the last one, the socket itself.
struct Step {
  std::string path;
  uid_t owner = 0;
  mode_t mode = 0;
};

// All steps of an absolute path, from the root on. A link is a step of its own: whoever may write
// in its folder may replace it.
absl::Status AddSteps(const std::filesystem::path& path, std::vector<Step>& steps) {
  std::filesystem::path at;
  for (const std::filesystem::path& part : path) {
    at /= part;
    struct stat info = {};
    if (lstat(at.c_str(), &info) != 0)
      return absl::ErrnoToStatus(errno, absl::StrCat("look at ", at.string()));
    steps.push_back({at.string(), info.st_uid, info.st_mode});
  }
  return absl::OkStatus();
}

// The steps of the path as it is written, and those that it leads to through links.
absl::StatusOr<std::vector<std::vector<Step>>> StepsTo(const std::string& path) {
  std::error_code error;
  const std::filesystem::path written = std::filesystem::absolute(path, error).lexically_normal();
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("look at ", path));
  const std::filesystem::path real = std::filesystem::canonical(written, error);
  if (error) return absl::ErrnoToStatus(error.value(), absl::StrCat("look at ", path));
  std::vector<std::vector<Step>> ways(real == written ? 1 : 2);
  TENURE_RETURN_IF_ERROR(AddSteps(real, ways[0]));
  if (ways.size() == 2) TENURE_RETURN_IF_ERROR(AddSteps(written, ways[1]));
  return ways;
}

// The first folder in which a user other than root and `uid` could replace the next step; nullptr
// if there is none. In a sticky folder, as /tmp is, only the owner of a file may replace it.
const Step* FirstOpenTo(const std::vector<Step>& way, uid_t uid, bool sticky_is_closed) {
  const auto trusted = [uid](uid_t owner) { return owner == 0 || owner == uid; };
  for (size_t i = 0; i + 1 < way.size(); ++i) {
    const Step& folder = way[i];
    if (S_ISLNK(folder.mode)) continue;
    const bool closed =
        (folder.mode & kWritableByOthers) == 0 ||
        (sticky_is_closed && (folder.mode & S_ISVTX) != 0 && trusted(way[i + 1].owner));
    if (!trusted(folder.owner) || !closed) return &folder;
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<std::optional<uid_t>> NamedDaemonUid(std::optional<uid_t> option) {
  if (option) return option;
  const char* const text = std::getenv("TENURE_DAEMON_UID");
  if (text == nullptr || *text == '\0') return std::nullopt;
  uid_t uid = 0;
  if (absl::SimpleAtoi(text, &uid)) return uid;
  return absl::InvalidArgumentError(absl::StrCat("TENURE_DAEMON_UID is '", text, "', and no uid"));
}

absl::Status CheckListener(const std::string& path, uid_t listener, std::optional<uid_t> named) {
  if (named) {
    if (*named == listener) return absl::OkStatus();
    return absl::PermissionDeniedError(absl::StrCat("uid ", listener, " listens at ", path,
                                                    ", and not uid ", *named, ", which is named"));
  }
  TENURE_ASSIGN_OR_RETURN(const std::vector<std::vector<Step>> ways, StepsTo(path));
  const std::vector<Step>& real = ways.front();
  const uid_t owner = real[real.size() - 2].owner;
  const std::string unless =
      absl::StrCat("; if that is meant, name the daemon's user in TENURE_DAEMON_UID=", listener);
  const bool ours = listener == 0 || listener == geteuid();
  if (!ours && listener != owner) {
    return absl::PermissionDeniedError(
        absl::StrCat("uid ", listener, " listens at ", path,
                     ", and is neither root, nor you, nor the owner of that folder", unless));
  }
  for (const std::vector<Step>& way : ways) {
    // The owner of the folder is as good as the daemon, if only root could take the folder away.
    const Step* const open_to_others = FirstOpenTo(way, owner, /*sticky_is_closed=*/false);
    if (open_to_others == nullptr) continue;
    if (ours && FirstOpenTo(way, geteuid(), /*sticky_is_closed=*/true) == nullptr) continue;
    return absl::PermissionDeniedError(absl::StrCat("other users may write in ",
                                                    open_to_others->path,
                                                    ", and could put a socket "
                                                    "of theirs in the place of ",
                                                    path, unless));
  }
  return absl::OkStatus();
}

absl::Status CheckConnection(int connection, const std::string& path, std::optional<uid_t> named) {
  ucred listener = {};
  socklen_t length = sizeof listener;
  if (getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &listener, &length) != 0)
    return absl::ErrnoToStatus(errno, absl::StrCat("learn who listens at ", path));
  return CheckListener(path, listener.uid, named);
}

}  // namespace tenure

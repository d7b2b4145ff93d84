#include "server/journal/journal_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "absl/strings/str_cat.h"

namespace tenure::server {
namespace {

// The name of a file that is not complete yet. In the same folder, because a rename is atomic only
// within one file system.
std::string UnfinishedName(const std::string& path) { return absl::StrCat(path, ".new"); }

absl::Status NotTrusted(const std::string& path, absl::string_view why) {
  return absl::PermissionDeniedError(
      absl::StrCat("journal ", path, " ", why,
                   ": it is not read, because another user may have written it; remove it"));
}

absl::Status Error(absl::string_view what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot ", what, " journal ", path));
}

absl::Status WriteAll(int fd, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return absl::ErrnoToStatus(errno, "write");
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<UniqueFd> OpenJournalFile(const std::string& path) {
  // O_NONBLOCK: opening a FIFO in its place must not block the daemon.
  UniqueFd fd(open(path.c_str(), O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd) {
    if (errno == ELOOP) return NotTrusted(path, "is a symbolic link");
    if (errno == ENOENT) return absl::NotFoundError(absl::StrCat("there is no journal ", path));
    return Error("open", path);
  }
  // Of the open file and not of the path, which may name another file by now.
  struct stat info = {};
  if (fstat(fd.get(), &info) != 0) return Error("look at", path);
  if (!S_ISREG(info.st_mode)) return NotTrusted(path, "is no regular file");
  if (info.st_uid != geteuid())
    return NotTrusted(path, absl::StrCat("belongs to uid ", info.st_uid));
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return NotTrusted(path, "may be written by others");
  return fd;
}

absl::StatusOr<uint64_t> FileSize(int fd) {
  struct stat info = {};
  if (fstat(fd, &info) != 0) return absl::ErrnoToStatus(errno, "cannot tell the journal's size");
  return static_cast<uint64_t>(info.st_size);
}

absl::StatusOr<std::string> ReadRange(int fd, uint64_t from, uint64_t to) {
  if (from > to || to > kMaxJournalBytes) {
    return absl::DataLossError(
        absl::StrCat("a journal has ", kMaxJournalBytes, " bytes at most; this one is larger"));
  }
  std::string bytes(to - from, '\0');
  size_t have = 0;
  while (have < bytes.size()) {
    const ssize_t got =
        pread(fd, bytes.data() + have, bytes.size() - have, static_cast<off_t>(from + have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, "cannot read the journal");
    if (got == 0) return absl::DataLossError("another process has cut the journal short");
    have += static_cast<size_t>(got);
  }
  return bytes;
}

absl::StatusOr<UniqueFd> ReplaceFile(const std::string& path, absl::string_view bytes) {
  const std::string unfinished = UnfinishedName(path);
  // A killed daemon may have left one, which O_EXCL would refuse. O_EXCL and O_NOFOLLOW keep
  // another user from choosing the file that is written.
  RemoveUnfinished(path);
  UniqueFd fd(open(unfinished.c_str(),
                   O_RDWR | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return Error("make", unfinished);
  if (absl::Status written = WriteAll(fd.get(), bytes); !written.ok()) {
    RemoveUnfinished(path);
    return absl::Status(written.code(),
                        absl::StrCat("cannot write journal ", unfinished, ": ", written.message()));
  }
  if (rename(unfinished.c_str(), path.c_str()) != 0) {
    absl::Status failed = Error("put in place", path);
    RemoveUnfinished(path);
    return failed;
  }
  return fd;
}

void RemoveUnfinished(const std::string& path) { unlink(UnfinishedName(path).c_str()); }

}  // namespace tenure::server

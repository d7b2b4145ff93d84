#include "server/keeper/unfinished_starts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "common/unique_fd.h"

namespace tenure::server {

UnfinishedStarts::UnfinishedStarts(const std::string& folder)
    : path_(folder.empty() ? "" : absl::StrCat(folder, "/unfinished-starts")) {}

absl::Duration UnfinishedStarts::Begin() const {
  if (path_.empty()) return absl::ZeroDuration();
  const UniqueFd file(open(path_.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  struct stat info = {};
  if (!file || fstat(file.get(), &info) != 0) return absl::ZeroDuration();
  absl::Duration pause = info.st_size == 0 ? absl::ZeroDuration() : kShortest;
  for (off_t start = 1; start < info.st_size && pause < kLongest; ++start) pause *= 2;
  // A length that cannot be changed is that of before, and so is the pause.
  static_cast<void>(ftruncate(file.get(), info.st_size + 1) == 0);
  return std::min(pause, kLongest);
}

void UnfinishedStarts::Served() const {
  if (!path_.empty()) unlink(path_.c_str());
}

}  // namespace tenure::server

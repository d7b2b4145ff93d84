#include "server/journal/journal.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/journal/journal_file.h"

namespace tenure::server {
namespace {

// A smaller file is read fast enough at a start.
constexpr uint64_t kWorthCompacting = uint64_t{16} << 20;
constexpr uint64_t kCompactAtGrowth = 4;
// A larger buffer, which a segment of many tensors has needed, is freed after the append.
constexpr size_t kKeptBufferBytes = size_t{64} << 10;

// The bytes of a whole file, record by record.
class Contents {
 public:
  absl::Status Add(const journal::Record& record) {
    absl::Status added = AppendFrame(records_ + 1, record, bytes_);
    if (added.ok()) ++records_;
    return added;
  }
  uint64_t records() const { return records_; }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_{kJournalMagic};
  uint64_t records_ = 0;
};

journal::Record OpeningRecord(const journal::Opening& opening) {
  journal::Record record;
  *record.mutable_opening() = opening;
  record.mutable_opening()->set_format(kJournalFormat);
  return record;
}

}  // namespace

Journal::Journal(std::string path, journal::Opening opening, UniqueFd fd, uint64_t size,
                 uint64_t records)
    : path_(std::move(path)),
      opening_(std::move(opening)),
      fd_(std::move(fd)),
      records_(records),
      size_(size) {}

absl::StatusOr<std::unique_ptr<Journal>> Journal::Create(const std::string& path,
                                                         const journal::Opening& opening) {
  Contents contents;
  TENURE_RETURN_IF_ERROR(contents.Add(OpeningRecord(opening)));
  TENURE_ASSIGN_OR_RETURN(UniqueFd fd, ReplaceFile(path, contents.bytes()));
  return std::unique_ptr<Journal>(
      new Journal(path, opening, std::move(fd), contents.bytes().size(), contents.records()));
}

absl::StatusOr<std::unique_ptr<Journal>> Journal::Open(const std::string& path,
                                                       const journal::Opening& opening) {
  absl::StatusOr<JournalReading> reading = ReadJournal(path, opening);
  if (absl::IsNotFound(reading.status())) return Create(path, opening);
  if (!reading.ok()) return reading.status();
  RemoveUnfinished(path);
  TENURE_ASSIGN_OR_RETURN(UniqueFd fd, OpenJournalFile(path));
  // The writer died while it wrote this record, so it has answered no client for it. Without the
  // cut, the next record would be appended behind half a record.
  if (reading->torn_tail && ftruncate(fd.get(), static_cast<off_t>(reading->valid_bytes)) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot shorten journal ", path));
  }
  std::unique_ptr<Journal> journal(
      new Journal(path, opening, std::move(fd), reading->valid_bytes, reading->records));
  TENURE_RETURN_IF_ERROR(journal->Append(OpeningRecord(opening)));
  return journal;
}

absl::Status Journal::Append(const journal::Record& record) {
  absl::MutexLock lock(&mu_);
  if (!failed_.ok()) return failed_;
  frame_.clear();
  TENURE_RETURN_IF_ERROR(AppendFrame(records_ + 1, record, frame_));
  const auto fail = [&](absl::string_view why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    failed_ = absl::UnavailableError(
        absl::StrCat("journal ", path_, " cannot be written: ", why,
                     "; nothing is granted any more, because a restart would not know of it"));
    return failed_;
  };
  const uint64_t size = this->size();
  if (frame_.size() > kMaxJournalBytes - size) return fail("it is as large as it may be");
  ssize_t written;
  do {
    written = write(fd_.get(), frame_.data(), frame_.size());
  } while (written < 0 && errno == EINTR);
  // Not tried again: some bytes of the record may be in the file, and whatever followed them would
  // be unreadable.
  if (written < 0) return fail(std::strerror(errno));
  if (static_cast<size_t>(written) != frame_.size()) return fail("there is no room for a record");
  ++records_;
  size_.store(size + frame_.size(), std::memory_order_relaxed);
  if (frame_.capacity() > kKeptBufferBytes) frame_ = std::string();
  return absl::OkStatus();
}

bool Journal::ShouldCompact() const {
  const uint64_t compacted = compacted_size_.load(std::memory_order_relaxed);
  return size() > kWorthCompacting && size() / kCompactAtGrowth > compacted;
}

absl::Status Journal::Compact() {
  // compact_mu_ is first in the lock order: it is held all the time, mu_ only when needed.
  absl::MutexLock one_at_a_time(&compact_mu_);
  int fd = -1;
  {
    absl::MutexLock lock(&mu_);
    fd = fd_.get();
  }
  JournalFold fold(path_, opening_);
  // First pass, without the lock: other threads append meanwhile. The descriptor stays valid,
  // because only Compact replaces it.
  TENURE_ASSIGN_OR_RETURN(std::string bytes, ReadRange(fd, 0, size()));
  TENURE_RETURN_IF_ERROR(fold.Apply(bytes));

  absl::MutexLock lock(&mu_);
  // A failed write may have left half a record at the end.
  if (!failed_.ok()) return failed_;
  // Second pass, with the lock: the records that came during the first. They are few, and so the
  // appends wait for a short time only.
  TENURE_ASSIGN_OR_RETURN(bytes, ReadRange(fd, fold.valid_bytes(), size()));
  TENURE_RETURN_IF_ERROR(fold.Apply(bytes));
  Contents contents;
  TENURE_RETURN_IF_ERROR(fold.state().ForEachRecord(
      [&contents](const journal::Record& record) { return contents.Add(record); }));
  TENURE_ASSIGN_OR_RETURN(fd_, ReplaceFile(path_, contents.bytes()));
  records_ = contents.records();
  size_.store(contents.bytes().size(), std::memory_order_relaxed);
  compacted_size_.store(contents.bytes().size(), std::memory_order_relaxed);
  return absl::OkStatus();
}

}  // namespace tenure::server

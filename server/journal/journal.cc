#include "server/journal/journal.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "server/journal/journal_file.h"

namespace tenure::server {
namespace {

constexpr uint64_t kWorthCompacting = uint64_t{16} << 20;
constexpr uint64_t kCompactAtGrowth = 4;
// A larger buffer, left by a segment of many tensors, is given back.
constexpr size_t kKeptBufferBytes = size_t{64} << 10;

// A whole file with these records.
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
  if (absl::Status added = contents.Add(OpeningRecord(opening)); !added.ok()) return added;
  absl::StatusOr<UniqueFd> fd = ReplaceFile(path, contents.bytes());
  if (!fd.ok()) return fd.status();
  return std::unique_ptr<Journal>(
      new Journal(path, opening, *std::move(fd), contents.bytes().size(), contents.records()));
}

absl::StatusOr<std::unique_ptr<Journal>> Journal::Open(const std::string& path,
                                                       const journal::Opening& opening) {
  absl::StatusOr<JournalReading> reading = ReadJournal(path, opening);
  if (absl::IsNotFound(reading.status())) return Create(path, opening);
  if (!reading.ok()) return reading.status();
  RemoveUnfinished(path);
  absl::StatusOr<UniqueFd> fd = OpenJournalFile(path);
  if (!fd.ok()) return fd.status();
  // A record that was cut short has promised nothing to anybody.
  if (reading->torn_tail && ftruncate(fd->get(), static_cast<off_t>(reading->valid_bytes)) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot shorten journal ", path));
  }
  std::unique_ptr<Journal> journal(
      new Journal(path, opening, *std::move(fd), reading->valid_bytes, reading->records));
  if (absl::Status added = journal->Append(OpeningRecord(opening)); !added.ok()) return added;
  return journal;
}

absl::Status Journal::Append(const journal::Record& record) {
  absl::MutexLock lock(&mu_);
  if (!failed_.ok()) return failed_;
  frame_.clear();
  if (absl::Status framed = AppendFrame(records_ + 1, record, frame_); !framed.ok()) return framed;
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
  absl::MutexLock one_at_a_time(&compact_mu_);
  int fd = -1;
  {
    absl::MutexLock lock(&mu_);
    fd = fd_.get();
  }
  JournalFold fold(path_, opening_);
  // Most of the file, while others append to it.
  absl::StatusOr<std::string> bytes = ReadRange(fd, 0, size());
  if (!bytes.ok()) return bytes.status();
  if (absl::Status taken = fold.Take(*bytes); !taken.ok()) return taken;

  absl::MutexLock lock(&mu_);
  if (!failed_.ok()) return failed_;
  bytes = ReadRange(fd, fold.valid_bytes(), size());
  if (!bytes.ok()) return bytes.status();
  if (absl::Status taken = fold.Take(*bytes); !taken.ok()) return taken;
  Contents contents;
  absl::Status added = fold.state().ForEachRecord(
      [&contents](const journal::Record& record) { return contents.Add(record); });
  if (!added.ok()) return added;
  absl::StatusOr<UniqueFd> replaced = ReplaceFile(path_, contents.bytes());
  if (!replaced.ok()) return replaced.status();
  fd_ = *std::move(replaced);
  records_ = contents.records();
  size_.store(contents.bytes().size(), std::memory_order_relaxed);
  compacted_size_.store(contents.bytes().size(), std::memory_order_relaxed);
  return absl::OkStatus();
}

}  // namespace tenure::server

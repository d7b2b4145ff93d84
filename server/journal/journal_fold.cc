#include "server/journal/journal_fold.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "server/journal/journal_file.h"

namespace tenure::server {

JournalFold::JournalFold(std::string path, const journal::Opening& now)
    : path_(std::move(path)), now_(now) {}

absl::Status JournalFold::Damaged(absl::string_view fault) const {
  return absl::DataLossError(absl::StrCat(
      "journal ", path_, ", record ", records_ + 1, " at byte ", valid_bytes_, ": ", fault,
      ". The journal is damaged and cannot say what was leased. Move the file away and start "
      "again; all leases and segments of kind VMM_FD that it tells of are lost then"));
}

absl::Status JournalFold::Take(absl::string_view bytes) {
  if (valid_bytes_ == 0) {
    if (!absl::ConsumePrefix(&bytes, kJournalMagic)) return Damaged("this is no journal of tenure");
    valid_bytes_ = kJournalMagic.size();
  }
  while (!bytes.empty()) {
    const Frame frame = FirstFrame(bytes, records_ + 1);
    if (frame.kind == Frame::Kind::kTorn) break;
    if (frame.kind == Frame::Kind::kDamaged) return Damaged(frame.fault);
    if (absl::Status taken = TakeRecord(frame.payload); !taken.ok()) return taken;
    const size_t length = kFrameHeaderBytes + frame.payload.size();
    bytes.remove_prefix(length);
    valid_bytes_ += length;
    ++records_;
  }
  if (!state_.is_open()) return Damaged("the file ends before its first record does");
  return absl::OkStatus();
}

absl::Status JournalFold::TakeRecord(absl::string_view payload) {
  if (!record_.ParseFromArray(payload.data(), static_cast<int>(payload.size())))
    return Damaged("its bytes are no record");
  // Whose journal it is comes before what is wrong with it.
  if (!state_.is_open() && record_.has_opening() &&
      (record_.opening().boot_id() != now_.boot_id() ||
       record_.opening().device_uuid() != now_.device_uuid())) {
    return absl::FailedPreconditionError(
        absl::StrCat("journal ", path_, " is of another boot or device: boot ",
                     record_.opening().boot_id(), ", device ", record_.opening().device_uuid(),
                     "; now it is boot ", now_.boot_id(), ", device ", now_.device_uuid()));
  }
  const absl::Status applied = state_.Apply(record_);
  if (applied.ok()) return applied;
  if (absl::IsUnimplemented(applied)) {
    return absl::UnimplementedError(absl::StrCat(
        "journal ", path_, " is of format ", record_.opening().format(), ", written by tenured ",
        record_.opening().daemon_version(), "; this one reads formats up to ", kJournalFormat,
        ". Start the newer tenured again, or move the file away: all leases and segments of kind "
        "VMM_FD that it tells of are lost then"));
  }
  return Damaged(absl::StrCat("it ", applied.message()));
}

absl::StatusOr<JournalReading> ReadJournal(const std::string& path, const journal::Opening& now) {
  absl::StatusOr<UniqueFd> fd = OpenJournalFile(path);
  if (!fd.ok()) return fd.status();
  absl::StatusOr<uint64_t> size = FileSize(fd->get());
  if (!size.ok()) return size.status();
  absl::StatusOr<std::string> bytes = ReadRange(fd->get(), 0, *size);
  if (!bytes.ok()) return bytes.status();
  JournalFold fold(path, now);
  if (absl::Status taken = fold.Take(*bytes); !taken.ok()) return taken;
  JournalReading reading;
  reading.records = fold.records();
  reading.valid_bytes = fold.valid_bytes();
  reading.torn_tail = fold.valid_bytes() != *size;
  reading.state = std::move(fold).TakeState();
  return reading;
}

}  // namespace tenure::server

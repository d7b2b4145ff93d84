#include "server/journal/journal_fold.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "common/status_macros.h"
#include "server/journal/journal_file.h"

namespace tenure::server {

JournalFold::JournalFold(std::string path, const journal::Opening& now)
    : path_(std::move(path)), now_(now) {}

absl::Status JournalFold::Damaged(absl::string_view fault) const {
  return absl::DataLossError(absl::StrCat(
      "journal ", path_, ", record ", records_ + 1, " at byte ", valid_bytes_, ": ", fault,
      ". The journal is damaged and cannot say which memory was leased. To give that memory up, "
      "move the file away and put an empty file in its place; all leases and segments of kind "
      "VMM_FD that it tells of are lost then"));
}

absl::Status JournalFold::Apply(absl::string_view bytes) {
  if (valid_bytes_ == 0) {
    if (!absl::ConsumePrefix(&bytes, kJournalMagic)) return Damaged("this is no journal of tenure");
    valid_bytes_ = kJournalMagic.size();
  }
  while (!bytes.empty()) {
    const Frame frame = FirstFrame(bytes, records_ + 1);
    // Perhaps the rest of this record comes with the next call, or the writer died in it.
    if (frame.kind == Frame::Kind::kTorn) break;
    if (frame.kind == Frame::Kind::kDamaged) return Damaged(frame.fault);
    TENURE_RETURN_IF_ERROR(ApplyRecord(frame.payload));
    const size_t length = kFrameHeaderBytes + frame.payload.size();
    bytes.remove_prefix(length);
    valid_bytes_ += length;
    ++records_;
  }
  // A journal is moved to its path with its first record in it, so the daemon leaves no empty one.
  if (!state_.is_open()) return Damaged("the file ends before its first record does");
  return absl::OkStatus();
}

absl::Status JournalFold::ApplyRecord(absl::string_view payload) {
  if (!record_.ParseFromArray(payload.data(), static_cast<int>(payload.size())))
    return Damaged("its bytes are no record");
  // Before the record is applied: the journal of another boot is replaced, even when it is damaged.
  if (!state_.is_open() && record_.has_opening()) {
    const journal::Opening& then = record_.opening();
    if (then.boot_id() != now_.boot_id()) {
      return absl::FailedPreconditionError(absl::StrCat("journal ", path_,
                                                        " is of another boot: ", then.boot_id(),
                                                        "; now it is ", now_.boot_id()));
    }
    if (then.device_uuid() != now_.device_uuid()) {
      return absl::InvalidArgumentError(
          absl::StrCat("journal ", path_, " is of device ", then.device_uuid(),
                       ", and this start is for device ", now_.device_uuid()));
    }
  }
  const absl::Status applied = state_.Apply(record_);
  if (applied.ok()) return applied;
  if (absl::IsUnimplemented(applied)) {
    return absl::UnimplementedError(absl::StrCat(
        "journal ", path_, " is of format ", record_.opening().format(), ", written by tenured ",
        record_.opening().daemon_version(), "; this one reads formats up to ", kJournalFormat,
        ". Start the newer tenured again. To give its memory up, move the file away and put an "
        "empty file in its place: all leases and segments of kind VMM_FD that it tells of are lost "
        "then"));
  }
  return Damaged(absl::StrCat("it ", applied.message()));
}

absl::StatusOr<JournalReading> ReadJournal(const std::string& path, const journal::Opening& now) {
  TENURE_ASSIGN_OR_RETURN(const UniqueFd fd, OpenJournalFile(path));
  TENURE_ASSIGN_OR_RETURN(const uint64_t size, FileSize(fd.get()));
  TENURE_ASSIGN_OR_RETURN(const std::string bytes, ReadRange(fd.get(), 0, size));
  JournalFold fold(path, now);
  TENURE_RETURN_IF_ERROR(fold.Apply(bytes));
  JournalReading reading;
  reading.records = fold.records();
  reading.valid_bytes = fold.valid_bytes();
  reading.torn_tail = fold.valid_bytes() != size;
  reading.state = std::move(fold).TakeState();
  return reading;
}

}  // namespace tenure::server

// Reading the journal: from its bytes to the state that they describe.
#ifndef SERVER_JOURNAL_JOURNAL_FOLD_H_
#define SERVER_JOURNAL_JOURNAL_FOLD_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "server/journal/journal_state.h"

namespace tenure::server {

// Applies a journal's records, in the order of the file, to a JournalState.
//
// Invariant: state() is the state after records() whole records, which are the first valid_bytes()
// bytes of the file.
// Thread safety: thread-compatible.
// Errors: DATA_LOSS (damage: bytes that no daemon has written; the message names the record and
//     tells the operator how to continue), FAILED_PRECONDITION (the journal is of another boot:
//     nothing in it exists any more, so the caller begins a new one), INVALID_ARGUMENT (it is of
//     another device of this boot), UNIMPLEMENTED (written by a newer daemon). After an error no
//     further call is allowed.
class JournalFold {
 public:
  // `now` has the boot and the device of which the journal must be. `path` is for messages only.
  JournalFold(std::string path, const journal::Opening& now);

  // Applies the file's bytes from valid_bytes() on. A record that is cut short at the end is not
  // applied; the next call may bring it whole.
  absl::Status Apply(absl::string_view bytes);

  uint64_t valid_bytes() const { return valid_bytes_; }
  uint64_t records() const { return records_; }
  const JournalState& state() const { return state_; }
  JournalState TakeState() && { return std::move(state_); }

 private:
  absl::Status ApplyRecord(absl::string_view payload);
  absl::Status Damaged(absl::string_view fault) const;

  const std::string path_;
  const journal::Opening now_;
  journal::Record record_;  // kept to save allocations
  JournalState state_;
  uint64_t valid_bytes_ = 0;
  uint64_t records_ = 0;
};

struct JournalReading {
  JournalState state;
  uint64_t records = 0;
  uint64_t valid_bytes = 0;
  // The file ends with a part of a record, whose writer died before it answered a client.
  bool torn_tail = false;
};

// Reads a journal without changing it. Errors: as JournalFold and OpenJournalFile. A file without a
// whole first record is damaged: a journal is created with that record.
absl::StatusOr<JournalReading> ReadJournal(const std::string& path, const journal::Opening& now);

}  // namespace tenure::server

#endif  // SERVER_JOURNAL_JOURNAL_FOLD_H_

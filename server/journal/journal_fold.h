// From the journal's bytes to the state.
#ifndef SERVER_JOURNAL_JOURNAL_FOLD_H_
#define SERVER_JOURNAL_JOURNAL_FOLD_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "server/journal/journal_state.h"

namespace tenure::server {

// Folds a journal's bytes, whole records at a time.
//
// Invariant: state() is that after records() whole records, which are the first valid_bytes() bytes
// of the file.
// Thread safety: thread-compatible.
// Errors: DATA_LOSS (damage: bytes that no daemon has written; says which record and what to do),
// FAILED_PRECONDITION (another boot's journal or another device's: nothing in it exists any more,
// the caller begins a new one), UNIMPLEMENTED (written by a newer daemon). After an error it takes
// nothing more.
class JournalFold {
 public:
  // `now` says whose journal is wanted; `path` is for the words.
  JournalFold(std::string path, const journal::Opening& now);

  // The file's bytes from valid_bytes() on. A record that is cut short at their end is left out.
  absl::Status Take(absl::string_view bytes);

  uint64_t valid_bytes() const { return valid_bytes_; }
  uint64_t records() const { return records_; }
  const JournalState& state() const { return state_; }
  JournalState TakeState() && { return std::move(state_); }

 private:
  absl::Status TakeRecord(absl::string_view payload);
  absl::Status Damaged(absl::string_view fault) const;

  const std::string path_;
  const journal::Opening now_;
  journal::Record record_;  // used again, so that its memory is
  JournalState state_;
  uint64_t valid_bytes_ = 0;
  uint64_t records_ = 0;
};

struct JournalReading {
  JournalState state;
  uint64_t records = 0;
  uint64_t valid_bytes = 0;
  // Behind the last whole record lies the beginning of one that was never answered for.
  bool torn_tail = false;
};

// Reads a journal without changing it. The errors of JournalFold and of OpenJournalFile. A file
// that does not hold its first record whole is damaged: a journal comes into being with it.
absl::StatusOr<JournalReading> ReadJournal(const std::string& path, const journal::Opening& now);

}  // namespace tenure::server

#endif  // SERVER_JOURNAL_JOURNAL_FOLD_H_

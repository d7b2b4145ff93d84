// Opening the journal at the daemon's start: the state of an earlier life, and this life's epoch.
#ifndef SERVER_LEASES_JOURNAL_OPENING_H_
#define SERVER_LEASES_JOURNAL_OPENING_H_

#include <memory>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "server/identity/ids.h"
#include "server/journal/journal.h"
#include "server/journal/journal_state.h"

namespace tenure::server {

struct OpenedJournal {
  // The state at the end of the earlier life; empty when there is none.
  JournalState before;
  // Of this life. No id in `before` carries it.
  Epoch epoch = 0;
  // Null when nothing outlives this process.
  std::unique_ptr<Journal> journal;
};

// The path of the journal: beside the daemon's socket, in a folder that the host empties when it
// boots, as the GPU's memory is lost then.
std::string JournalPath(absl::string_view socket);

// Reads the journal of the earlier life and continues it, or begins a new one when there is none or
// when it is of another boot or device.
//
// `survives`: whether a supervisor keeps this daemon's descriptors beyond its process. If not, a
// journal that exists is removed: the memory in it is lost, and a later life must not restore it.
// Errors: DATA_LOSS (the journal is damaged) and UNIMPLEMENTED (a newer daemon wrote it); the file
//     stays as it is. Others as Journal::Open.
absl::StatusOr<OpenedJournal> OpenJournal(const std::string& path, const std::string& device_uuid,
                                          bool survives);

// The epochs of the ids in the state, that of the last life included.
std::set<Epoch> EpochsIn(const JournalState& state);

}  // namespace tenure::server

#endif  // SERVER_LEASES_JOURNAL_OPENING_H_

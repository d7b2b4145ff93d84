// The journal at the daemon's start: the state of an earlier life, and this life's epoch.
#ifndef SERVER_LEASES_JOURNAL_OPENING_H_
#define SERVER_LEASES_JOURNAL_OPENING_H_

#include <cstddef>
#include <memory>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "server/identity/ids.h"
#include "server/journal/journal.h"
#include "server/journal/journal_state.h"

namespace tenure::server {

// What a start finds of the life before it.
struct EarlierLife {
  // At its end; empty when there was none.
  JournalState state;
  // Of the life that starts. No id in `state` carries it.
  Epoch next_epoch = 0;
  // Whether a new journal is begun, in place of one of another boot for example.
  bool begin = false;
  // The first record of the life that starts.
  journal::Opening opening;
};

// The path of the journal: beside the daemon's socket, in a folder that the host empties when it
// boots, as the GPU's memory is lost then.
std::string JournalPath(absl::string_view socket);

// What the supervisor has kept for this start.
struct KeptForStart {
  size_t memory = 0;  // descriptors of memory
  // Whether it kept the claim of an earlier life: then it is that life's supervisor, and what it
  // does not keep is lost.
  bool claim = false;
};

// Reads the journal of the earlier life, and changes nothing, so that a start that fails later
// leaves it as it was. A new journal is begun when there is none, when it is of another boot, when
// it is of another device and its supervisor keeps nothing, and when an operator has emptied the
// file to give up what it told of.
// Errors: DATA_LOSS: the journal is damaged. UNIMPLEMENTED: a newer daemon wrote it.
//     INVALID_ARGUMENT: memory is kept or may be, and this start is for another device, or for
//     another socket, beside which there is no journal.
absl::StatusOr<EarlierLife> ReadEarlierLife(const std::string& path, const std::string& device_uuid,
                                            KeptForStart kept);

// Continues the journal, or begins it. From here on it is this life's.
// Errors: as Journal::Open.
absl::StatusOr<std::unique_ptr<Journal>> ContinueJournal(const std::string& path,
                                                         const EarlierLife& before);

// For a daemon without a supervisor, of which nothing outlives its process: removes a journal of
// another boot.
// Errors: FAILED_PRECONDITION: there is one of this boot, or one that cannot be read. It may be of
// a
//     service whose memory is kept at this moment, whichever device it has.
absl::StatusOr<EarlierLife> BeginWithoutJournal(const std::string& path);

// The epochs of the ids in the state, that of the last life included.
std::set<Epoch> EpochsIn(const JournalState& state);

}  // namespace tenure::server

#endif  // SERVER_LEASES_JOURNAL_OPENING_H_

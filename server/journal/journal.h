// What the daemon has promised, written down so that its next life can keep it.
#ifndef SERVER_JOURNAL_JOURNAL_H_
#define SERVER_JOURNAL_JOURNAL_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "common/unique_fd.h"
#include "server/journal/journal_fold.h"
#include "server/journal/journal_frame.h"

namespace tenure::server {

// The journal, open for writing. It is there for the death of the daemon's process, at any
// instruction; with the host the GPU's memory goes too. Hence a tmpfs, and no fsync: what write(2)
// has taken is there for the next life.
//
// The caller appends a grant before it answers for it, and whatever gives something back before
// that can be given to anybody else: then the file's order is one in which things happened.
//
// Invariants:
//   1. every record is written by one write(2): a killed daemon leaves whole records, and at most
//      one that is cut short, which nobody was answered for;
//   2. at every moment the file under the name is a whole journal: it comes into being, and is
//      folded, by rename(2);
//   3. after an append that failed nothing is appended any more.
// Owns: the file. Borrows: the claim on the device (server/instance_lock.h), which keeps a second
// daemon away.
// Thread safety: thread-safe.
// Errors: UNAVAILABLE from an append that failed, and from all after it: the caller stops granting.
class Journal {
 public:
  // Continues the journal, or begins one when there is none. `opening` says which life this is; its
  // format is set here. The errors of ReadJournal.
  static absl::StatusOr<std::unique_ptr<Journal>> Open(const std::string& path,
                                                       const journal::Opening& opening);
  // Begins one, in place of what is there: after FAILED_PRECONDITION.
  static absl::StatusOr<std::unique_ptr<Journal>> Create(const std::string& path,
                                                         const journal::Opening& opening);

  // INVALID_ARGUMENT, and nothing is written: a record of more than kMaxRecordBytes.
  absl::Status Append(const journal::Record& record) ABSL_LOCKS_EXCLUDED(mu_);

  // Of the file.
  uint64_t size() const { return size_.load(std::memory_order_relaxed); }

  // Folding would pay: the file is large, and several times what it was when last folded.
  bool ShouldCompact() const;
  // Folds the file into one with the records of what is live. Appends wait only while what came in
  // meanwhile is folded and the new file written. After an error the old file stays in use.
  absl::Status Compact() ABSL_LOCKS_EXCLUDED(compact_mu_, mu_);

 private:
  Journal(std::string path, journal::Opening opening, UniqueFd fd, uint64_t size, uint64_t records);

  const std::string path_;
  const journal::Opening opening_;

  // One folding at a time. Taken before mu_; nothing else waits for it.
  absl::Mutex compact_mu_;
  // Keeps the file's order that of the sequence numbers: held over each write.
  absl::Mutex mu_;
  UniqueFd fd_ ABSL_GUARDED_BY(mu_);  // replaced only with compact_mu_ held too
  uint64_t records_ ABSL_GUARDED_BY(mu_);
  absl::Status failed_ ABSL_GUARDED_BY(mu_);
  std::string frame_ ABSL_GUARDED_BY(mu_);  // used again, so that its memory is
  std::atomic<uint64_t> size_;              // written with mu_ held
  std::atomic<uint64_t> compacted_size_{0};
};

}  // namespace tenure::server

#endif  // SERVER_JOURNAL_JOURNAL_H_

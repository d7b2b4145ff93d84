// The journal: a file of records from which the daemon's next life restores leases and segments.
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

// The journal, open for writing. It must survive the death of the daemon's process at any
// instruction, but not the end of the host, which also ends the GPU's memory. So the file lies on a
// tmpfs and needs no fsync: the next life sees every byte that write(2) has accepted.
//
// The caller appends the record of a grant before it answers the client. It appends the record of a
// free, a detach or an end before the memory can be granted again. So the records stand in an order
// in which the changes could have happened.
//
// Invariants:
//   1. Each record is written by one write(2). A killed daemon leaves whole records and at most one
//      that is cut short; no client has an answer that depends on that one.
//   2. At every moment the file under the name is a whole journal: it is created, and replaced when
//      it is folded, by rename(2).
//   3. After an append has failed, no further record is appended.
// Owns: the file. Borrows: the lock of the device (server/instance_lock.h), which keeps a second
//     daemon away.
// Thread safety: thread-safe.
// Errors: UNAVAILABLE from an append that failed, and from all appends after it. The caller grants
//     nothing more then.
class Journal {
 public:
  // Continues the journal, or begins one when there is none. `opening` describes this life of the
  // daemon; its format is set here. Errors: as ReadJournal.
  static absl::StatusOr<std::unique_ptr<Journal>> Open(const std::string& path,
                                                       const journal::Opening& opening);
  // Begins a new journal and replaces a file of that name: for use when ReadJournal has returned
  // FAILED_PRECONDITION.
  static absl::StatusOr<std::unique_ptr<Journal>> Create(const std::string& path,
                                                         const journal::Opening& opening);

  // INVALID_ARGUMENT when the record is larger than kMaxRecordBytes; nothing is written then.
  absl::Status Append(const journal::Record& record) ABSL_LOCKS_EXCLUDED(mu_);

  // Bytes of the file.
  uint64_t size() const { return size_.load(std::memory_order_relaxed); }

  // Whether the file is larger than 16 MiB and more than four times as large as after the last
  // folding.
  bool ShouldCompact() const;
  // Folds the file: replaces it by one that has only the records of live things. Appends wait
  // while the new file is written, but not while the old one is read. After an error the old file
  // stays in use.
  absl::Status Compact() ABSL_LOCKS_EXCLUDED(compact_mu_, mu_);

 private:
  Journal(std::string path, journal::Opening opening, UniqueFd fd, uint64_t size, uint64_t records);

  const std::string path_;
  const journal::Opening opening_;

  // Held by the one folding at a time. No append waits for it.
  absl::Mutex compact_mu_ ABSL_ACQUIRED_BEFORE(mu_);
  // Held during each write, so that the records stand in the order of their sequence numbers.
  absl::Mutex mu_;
  UniqueFd fd_ ABSL_GUARDED_BY(mu_);  // replaced only while compact_mu_ is held too
  uint64_t records_ ABSL_GUARDED_BY(mu_);
  absl::Status failed_ ABSL_GUARDED_BY(mu_);
  std::string frame_ ABSL_GUARDED_BY(mu_);  // a buffer, kept to save allocations
  std::atomic<uint64_t> size_;              // written with mu_ held
  std::atomic<uint64_t> compacted_size_{0};
};

}  // namespace tenure::server

#endif  // SERVER_JOURNAL_JOURNAL_H_

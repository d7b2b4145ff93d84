// The background thread of a session.
#ifndef CLIENT_SESSION_UPKEEP_H_
#define CLIENT_SESSION_UPKEEP_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

#include "client/session/backoff.h"
#include "client/session/deadline.h"
#include "client/session/region_cache.h"
#include "client/session/session_stub.h"
#include "common/timed_cond_var.h"

namespace tenure {

// The one background thread of a session. It renews the lease after each third of its time, sends
// queued frees in batches, returns idle regions to the daemon, and ends attachments to segments. It
// makes one attempt at a time and keeps what was not answered, so that the lease is renewed also
// while the daemon does not answer frees.
//
// Invariants: 1. A queued free keeps its request id until it is answered. 2. A region is named to
// the daemon only between BeginReturn and EndReturn of the region cache.
// Borrows: the stub, and the region cache (null in a process that maps nothing).
// Owns: the thread. The destructor ends it and does not wait for what is queued.
// Thread safety: thread-safe.
class Upkeep {
 public:
  // Both functions are called on the thread, without a lock held: `on_lost` at most once, when the
  // session is lost; `on_restart` each time when the next daemon has restored the session.
  Upkeep(SessionStub& stub, RegionCache* regions, std::function<void(absl::Status)> on_lost,
         std::function<void()> on_restart);
  // REQUIRES: not called on the thread, as by an `on_lost` that destroys the session.
  ~Upkeep();
  Upkeep(const Upkeep&) = delete;
  Upkeep& operator=(const Upkeep&) = delete;

  // Sends the request until it is answered. Never blocks and never fails: after the loss of the
  // session there is nothing left to free.
  void QueueFree(v1::FreeRequest request) ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends an attachment in the same way. REQUIRES: its regions are unmapped.
  void QueueDetach(uint64_t attachment_id) ABSL_LOCKS_EXCLUDED(mutex_);
  // Regions that the daemon called idle: no block of this session lies in them.
  void QueueIdle(absl::Span<const uint64_t> region_ids) ABSL_LOCKS_EXCLUDED(mutex_);
  // Renews the lease now. To be called after an answer that may mean that the session is lost.
  void RenewNow() ABSL_LOCKS_EXCLUDED(mutex_);

  bool HasQueuedFrees() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits until every free and detach queued so far was answered. Returns the first error that a
  // queued free met since the last Flush. DEADLINE_EXCEEDED: they were not answered in time. When
  // the session is lost: the stub's error.
  absl::Status Flush(Deadline deadline) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Run();
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Waits for work. False when the thread has to end.
  bool AwaitWork() ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits before unanswered requests are sent again. False when the thread has to end.
  bool Pause(absl::Duration span) ABSL_LOCKS_EXCLUDED(mutex_);

  // One attempt each. An error means that a request was not answered and has to be sent again.
  absl::Status Renew() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status SendFrees() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status ReturnRegions() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status SendDetaches() ABSL_LOCKS_EXCLUDED(mutex_);
  // Keeps of the unanswered frees those that have to be sent again, and counts the others.
  absl::Status ReadOutcomes(const v1::FreeBatchResponse& response) ABSL_LOCKS_EXCLUDED(mutex_);
  void CountAnswered(int frees, const absl::Status& failure) ABSL_LOCKS_EXCLUDED(mutex_);
  // The session is lost: drops everything queued, and reports the loss.
  void EndAfterLoss() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Duration AttemptTimeout() const;

  SessionStub& stub_;
  RegionCache* const regions_;
  const std::function<void(absl::Status)> on_lost_;
  const std::function<void()> on_restart_;

  // Used by the thread only. The unanswered requests were taken from the queues, and are sent until
  // the daemon answers.
  absl::Duration ttl_;
  Deadline renew_at_;
  Backoff backoff_;
  v1::FreeBatchRequest unanswered_frees_;
  v1::ReleaseRegionsRequest unanswered_regions_;
  std::optional<uint64_t> unanswered_detach_;

  // Guards the queues between callers and the thread. Nothing is called under it: no RPC, no driver
  // call, no function of the user.
  mutable absl::Mutex mutex_;
  TimedCondVar has_work_;  // HasWork() may have become true
  TimedCondVar answered_;  // what Flush waits for may have been answered
  std::deque<v1::FreeRequest> frees_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> idle_ ABSL_GUARDED_BY(mutex_);
  std::deque<uint64_t> detaches_ ABSL_GUARDED_BY(mutex_);
  // How many were queued, and how many of these were answered or dropped. Flush compares them.
  uint64_t frees_queued_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t frees_answered_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t detaches_queued_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t detaches_answered_ ABSL_GUARDED_BY(mutex_) = 0;
  // The first error of a queued free since the last Flush.
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  bool renew_now_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool lost_ ABSL_GUARDED_BY(mutex_) = false;

  // Last, so that the members above exist when it starts.
  std::thread thread_;
};

}  // namespace tenure

#endif  // CLIENT_SESSION_UPKEEP_H_

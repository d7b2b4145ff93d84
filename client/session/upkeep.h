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

namespace tenure {

// The session's one background thread: renews the lease at a third of its time, sends queued frees
// in batches, takes idle regions back to the daemon, and ends attachments to segments. Makes one
// attempt at a time and keeps what was not answered, so that a daemon that does not answer frees
// still hears that the client is alive.
//
// Invariants: 1. a free keeps its request id until it is answered; 2. a region is named to the
// daemon only while it is barred in the region cache.
// Borrows: the connection, and the region cache (null in a process that maps nothing).
// Owns: the thread; the destructor ends it without waiting for what is queued.
// Thread safety: thread-safe.
class Upkeep {
 public:
  // `on_lost` is called at most once, on the thread, when the session turns out to be lost;
  // `on_restart`, too, each time when it goes on at a daemon that was started again.
  Upkeep(SessionStub& connection, RegionCache* regions, std::function<void(absl::Status)> on_lost,
         std::function<void()> on_restart);
  ~Upkeep();
  Upkeep(const Upkeep&) = delete;
  Upkeep& operator=(const Upkeep&) = delete;

  // Repeats the request until it is answered. Never blocks and never fails: a session that is lost
  // has nothing left to free.
  void QueueFree(v1::FreeRequest request) ABSL_LOCKS_EXCLUDED(mutex_);
  // The same for the end of an attachment, whose regions are unmapped.
  void QueueDetach(uint64_t attachment_id) ABSL_LOCKS_EXCLUDED(mutex_);
  // Regions that the daemon called idle.
  void QueueIdle(absl::Span<const uint64_t> region_ids) ABSL_LOCKS_EXCLUDED(mutex_);
  // Renews the lease now: somebody had an answer that may mean that the session is lost.
  void Nudge() ABSL_LOCKS_EXCLUDED(mutex_);

  bool HasQueuedFrees() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits until every free and detach queued so far was answered. The first error that a queued
  // free met since the last Flush; DEADLINE_EXCEEDED: no answer in time; the connection's error
  // when the session is lost.
  absl::Status Flush(Deadline deadline) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Run();
  bool Due() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Waits for something to do; false when the thread is to end.
  bool AwaitWork() ABSL_LOCKS_EXCLUDED(mutex_);
  // Waits before what is in hand is tried again; false when the thread is to end.
  bool Pause(absl::Duration span) ABSL_LOCKS_EXCLUDED(mutex_);

  // One attempt each at what is due; an error means that something is left in hand.
  absl::Status Renew() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status SendFrees() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status ReturnRegions() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status SendDetaches() ABSL_LOCKS_EXCLUDED(mutex_);
  // Keeps of the frees in hand those that are to be repeated, and accounts for the others.
  absl::Status Account(const v1::FreeBatchResponse& response) ABSL_LOCKS_EXCLUDED(mutex_);
  void Settle(int frees, const absl::Status& failure) ABSL_LOCKS_EXCLUDED(mutex_);
  // The session is lost: nothing is owed to the daemon any more.
  void Abandon() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Duration AttemptTimeout() const;

  SessionStub& stub_;
  RegionCache* const regions_;
  const std::function<void(absl::Status)> on_lost_;
  const std::function<void()> on_restart_;

  // Confined to the thread. What is in hand was taken from the queues and awaits its answer.
  absl::Duration ttl_;
  Deadline renew_at_;
  Backoff backoff_;
  v1::FreeBatchRequest frees_in_hand_;
  v1::ReleaseRegionsRequest regions_in_hand_;
  std::optional<uint64_t> detach_in_hand_;

  // Guards what callers leave for the thread; nothing is called under it.
  mutable absl::Mutex mutex_;
  std::deque<v1::FreeRequest> frees_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> idle_ ABSL_GUARDED_BY(mutex_);
  std::deque<uint64_t> detaches_ ABSL_GUARDED_BY(mutex_);
  uint64_t queued_ ABSL_GUARDED_BY(mutex_) = 0;           // frees ever queued
  uint64_t settled_ ABSL_GUARDED_BY(mutex_) = 0;          // of them, answered or moot
  uint64_t detaches_queued_ ABSL_GUARDED_BY(mutex_) = 0;  // the same of detaches
  uint64_t detaches_settled_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);  // the first of a queued free since the last Flush
  bool nudged_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool lost_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread thread_;
};

}  // namespace tenure

#endif  // CLIENT_SESSION_UPKEEP_H_

// One session at the daemon, as calls.
#ifndef CLIENT_SESSION_SESSION_STUB_H_
#define CLIENT_SESSION_SESSION_STUB_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include "client/session/deadline.h"
#include "client/session/fork_guard.h"
#include "common/unique_fd.h"
#include "tenure/v1/allocator.grpc.pb.h"

namespace tenure {

// One session at the daemon, as calls. Fills in the session id and the request ids, and gives every
// call a deadline. A call that met UNAVAILABLE or DEADLINE_EXCEEDED is repeated with the same
// request id until that deadline. The daemon answers a repeated request with its first answer, so a
// lost reply leaks nothing.
//
// When the daemon's process ends, the session is lost, unless it may survive: then calls are
// repeated as if the daemon were slow. The next daemon restores the session, or answers that it
// does not know it.
//
// Hides: gRPC's channel, attempts and backoff, the renewal of a suspended session, the exchange of
// tickets for descriptors.
// Invariants: 1. A lost session stays lost, and every later call returns the same error. 2. In a
// forked child no call reaches gRPC.
// Owns: its channel.
// Thread safety: thread-safe.
// Errors: the daemon's own. ABORTED: the session is lost. UNAVAILABLE, DEADLINE_EXCEEDED: the
// daemon could not be reached in time. FAILED_PRECONDITION: this process is a forked child.
class SessionStub {
 public:
  struct Options {
    std::string socket;
    std::string name;
    absl::Duration call_timeout;
    // The daemon's user, if the user of this process has named it.
    std::optional<uid_t> daemon_uid = std::nullopt;
    // How long no daemon may run before a session that may survive is lost.
    absl::Duration restart_window = absl::Seconds(30);
  };

  // Errors: as CheckSocket for a daemon that cannot be reached; those of OpenSession.
  static absl::StatusOr<std::unique_ptr<SessionStub>> Open(const Options& options);
  SessionStub(const SessionStub&) = delete;
  SessionStub& operator=(const SessionStub&) = delete;

  uint64_t session_id() const { return session_.session_id(); }
  // The daemon's answer when the session was opened.
  const v1::OpenSessionResponse& session() const { return session_; }
  absl::Duration call_timeout() const { return options_.call_timeout; }
  // A new id, which is never 0. Thread-safe, and lock-free.
  uint64_t NextRequestId();

  // OK unless the session is lost or this process is a forked child.
  absl::Status Usable() const ABSL_LOCKS_EXCLUDED(mutex_);
  bool InForkedChild() const { return fork_guard_.InChild(); }

  // `request` has the size, alignment, placement and kind. The rest is filled in.
  absl::StatusOr<v1::Token> Allocate(v1::AllocateRequest request);
  absl::StatusOr<std::vector<v1::Token>> AllocateBatch(v1::AllocateBatchRequest request);
  // Returns the descriptor that maps the region of an allocation, or of a segment's block, of kind
  // VMM_FD. The session id is filled in.
  absl::StatusOr<UniqueFd> RequestRegionFd(v1::RequestRegionFdRequest request);
  // The session id is filled in. The caller sets the request id, because it may have to send the
  // same request again after this call has failed.
  absl::StatusOr<v1::FreeResponse> Free(v1::FreeRequest request);

  // Segments. Session and request ids are filled in. When PublishSegment fails, `repeated` tells
  // whether an earlier attempt had no answer. That attempt may have taken effect.
  absl::StatusOr<v1::PublishSegmentResponse> PublishSegment(v1::PublishSegmentRequest request,
                                                            bool* repeated);
  absl::StatusOr<v1::AttachSegmentResponse> AttachSegment(v1::AttachSegmentRequest request);
  absl::Status DetachSegment(uint64_t attachment_id);
  absl::Status UnpublishSegment(const v1::UnpublishSegmentRequest& request);

  // One attempt each, for Upkeep, which repeats them itself. The caller sets the request ids.
  absl::StatusOr<v1::KeepAliveResponse> TryKeepAlive(absl::Duration timeout);
  absl::StatusOr<v1::FreeBatchResponse> TryFreeBatch(v1::FreeBatchRequest request,
                                                     absl::Duration timeout);
  absl::Status TryReleaseRegions(v1::ReleaseRegionsRequest request, absl::Duration timeout);
  absl::Status TryDetachSegment(uint64_t attachment_id, absl::Duration timeout);

  // Says that the session holds, or is about to request, memory that may survive the daemon.
  // REQUIRES: called before that request is sent.
  void ExpectSurvival() { expects_survival_.store(true, std::memory_order_relaxed); }
  // The daemon's process has ended. If the session cannot survive that, it is lost now and every
  // call in progress ends; else the restart window begins.
  void OnDaemonExit() ABSL_LOCKS_EXCLUDED(mutex_);
  // Marks the session as lost if the restart window has passed without an answer.
  void CheckRestartWindow() ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether a new daemon has answered since the last call of this function.
  bool TestAndClearRestarted() ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends every call in progress, and every later one except Close, with CANCELLED.
  void CancelCalls() ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends the session; attempts until the timeout.
  // REQUIRES: every region has been unmapped.
  absl::Status Close(absl::Duration timeout);

 private:
  template <typename Request, typename Response>
  using Method = grpc::Status (v1::Allocator::Stub::*)(grpc::ClientContext*, const Request&,
                                                       Response*);

  SessionStub(const Options& options, std::shared_ptr<grpc::Channel> channel);

  // The layers of a call, each built on the one before: one attempt; attempts until the deadline;
  // and once more after a keep-alive if the daemon has suspended the session.
  template <typename Request, typename Response>
  absl::Status Attempt(Method<Request, Response> method, const Request& request, Response* response,
                       absl::Duration timeout);
  template <typename Request, typename Response>
  absl::Status Retry(Method<Request, Response> method, const Request& request, Response* response,
                     bool* repeated = nullptr);
  template <typename Request, typename Response>
  absl::Status RetryRenewing(Method<Request, Response> method, const Request& request,
                             Response* response);
  // The error of a call whose deadline has passed: the last attempt's, or why the socket cannot be
  // reached.
  absl::Status TimeoutError(const absl::Status& last) const;
  // Marks the session as lost if `status` says so, and returns the error that the caller gets.
  // ABORTED always says so; NOT_FOUND does when the request names no other object than the session.
  absl::Status CheckLost(absl::Status status, bool only_names_session) ABSL_LOCKS_EXCLUDED(mutex_);
  // Keeps the first reason.
  void MarkLost(const std::string& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  const ForkGuard fork_guard_;
  const std::unique_ptr<v1::Allocator::Stub> stub_;
  v1::OpenSessionResponse session_;  // set by Open, then immutable
  std::atomic<uint64_t> next_request_id_;
  std::atomic<bool> expects_survival_ = false;
  // Whether lost_ is an error. Lets Usable() do without the lock on every successful call.
  std::atomic<bool> lost_flag_ = false;

  // Guards the state that calls share. Never held while a call waits for the daemon.
  mutable absl::Mutex mutex_;
  absl::Status lost_ ABSL_GUARDED_BY(mutex_);
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  // The end of the restart window. Set while no daemon has answered since the last one's exit.
  std::optional<Deadline> restart_deadline_ ABSL_GUARDED_BY(mutex_);
  uint64_t epoch_ ABSL_GUARDED_BY(mutex_) = 0;  // of the last answer; 0 before the first keep-alive
  bool restarted_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_set<grpc::ClientContext*> in_progress_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tenure

#endif  // CLIENT_SESSION_SESSION_STUB_H_

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

// One session at the daemon, as calls. Fills in the session id and the request ids, gives every
// call a deadline, and repeats a call that met UNAVAILABLE or DEADLINE_EXCEEDED, with the same
// request id, while its deadline allows: the daemon answers a repeated request with the first
// answer, so a lost reply leaks nothing.
//
// The end of the daemon's process is the end of the session, unless the session may survive it:
// then calls are repeated until their time is up, as if the daemon were slow, and the next daemon
// goes on with the session or says that it does not know it.
//
// Hides: gRPC's channel, attempts and backoff, the renewal of a suspended session, the exchange of
// tickets for descriptors.
// Invariants: 1. once the session is lost it stays lost, and every call says so with the same
// words; 2. in a forked child no call reaches gRPC.
// Owns: its channel.
// Thread safety: thread-safe.
// Errors: the daemon's own; ABORTED once the session is lost; UNAVAILABLE or DEADLINE_EXCEEDED when
// the daemon could not be reached in time; FAILED_PRECONDITION in a forked child.
class SessionStub {
 public:
  struct Options {
    std::string socket;
    std::string name;
    absl::Duration call_timeout;
    // How long a daemon may be away before the session is given up.
    absl::Duration restart_window = absl::Seconds(30);
  };

  // Errors: as CheckSocket for a daemon that cannot be reached; those of OpenSession.
  static absl::StatusOr<std::unique_ptr<SessionStub>> Open(const Options& options);
  SessionStub(const SessionStub&) = delete;
  SessionStub& operator=(const SessionStub&) = delete;

  uint64_t session_id() const { return session_.session_id(); }
  // What the daemon said when the session was opened.
  const v1::OpenSessionResponse& session() const { return session_; }
  absl::Duration call_timeout() const { return options_.call_timeout; }
  // Not used before in this session, and never 0.
  uint64_t NextRequestId();

  // OK while calls make sense: the session is not lost, the process is no forked child.
  absl::Status Usable() const ABSL_LOCKS_EXCLUDED(mutex_);
  bool InForkedChild() const { return fork_guard_.InChild(); }

  // Size, alignment and placement are the caller's; the rest is filled in.
  absl::StatusOr<v1::Token> Allocate(v1::AllocateRequest request);
  absl::StatusOr<std::vector<v1::Token>> AllocateBatch(v1::AllocateBatchRequest request);
  // The descriptor that maps the region of an allocation or of a segment's block, which is of kind
  // VMM_FD. The session id is filled in.
  absl::StatusOr<UniqueFd> RequestRegionFd(v1::RequestRegionFdRequest request);
  // The session id is filled in; the request id is the caller's, who may have to repeat the request
  // later.
  absl::StatusOr<v1::FreeResponse> Free(v1::FreeRequest request);

  // Segments. Session and request ids are filled in. With an error, `repeated` tells whether an
  // attempt before had no answer, which may have taken effect.
  absl::StatusOr<v1::PublishSegmentResponse> PublishSegment(v1::PublishSegmentRequest request,
                                                            bool* repeated);
  absl::StatusOr<v1::AttachSegmentResponse> AttachSegment(v1::AttachSegmentRequest request);
  absl::Status DetachSegment(uint64_t attachment_id);
  absl::Status UnpublishSegment(const v1::UnpublishSegmentRequest& request);

  // One attempt each, for a caller that repeats by itself. Request ids are the caller's.
  absl::StatusOr<v1::KeepAliveResponse> TryKeepAlive(absl::Duration timeout);
  absl::StatusOr<v1::FreeBatchResponse> TryFreeBatch(v1::FreeBatchRequest request,
                                                     absl::Duration timeout);
  absl::Status TryReleaseRegions(v1::ReleaseRegionsRequest request, absl::Duration timeout);
  absl::Status TryDetachSegment(uint64_t attachment_id, absl::Duration timeout);

  // From now on the session has, or asks for, what outlives the daemon where anything does. To be
  // called before it asks.
  void ExpectSurvival() { expects_survival_.store(true, std::memory_order_relaxed); }
  // The daemon's process has ended. Unless the session may survive that, it is over: then every
  // call under way ends.
  void NoteDaemonEnded() ABSL_LOCKS_EXCLUDED(mutex_);
  // Gives the session up if the daemon has been away for too long.
  void CheckAway() ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether the daemon was started again since the last call of this function.
  bool TakeRestarted() ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends every call under way and to come with CANCELLED, except Close.
  void Interrupt() ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends the session; one attempt. Every region has been unmapped.
  absl::Status Close(absl::Duration timeout);

 private:
  template <typename Request, typename Response>
  using Method = grpc::Status (v1::Allocator::Stub::*)(grpc::ClientContext*, const Request&,
                                                       Response*);

  SessionStub(const Options& options, std::shared_ptr<grpc::Channel> channel);

  // The three layers of a call: one attempt, attempts until the deadline, and what its end says
  // about the session.
  template <typename Request, typename Response>
  absl::Status Attempt(Method<Request, Response> method, const Request& request, Response* response,
                       absl::Duration timeout);
  template <typename Request, typename Response>
  absl::Status Repeat(Method<Request, Response> method, const Request& request, Response* response,
                      bool* repeated = nullptr);
  // The last error of a call whose time is up, with what stands between this process and the
  // daemon.
  absl::Status GiveUp(const absl::Status& status) const;
  absl::Status Settle(absl::Status status, bool only_names_session) ABSL_LOCKS_EXCLUDED(mutex_);
  // The first reason why the session is lost is the one that stays.
  void Lose(const std::string& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Repeat, and once more after a keep-alive if the session turned out to be suspended.
  template <typename Request, typename Response>
  absl::Status RepeatAwake(Method<Request, Response> method, const Request& request,
                           Response* response);

  const Options options_;
  const ForkGuard fork_guard_;
  const std::unique_ptr<v1::Allocator::Stub> stub_;
  v1::OpenSessionResponse session_;  // set by Open, then immutable
  std::atomic<uint64_t> next_request_id_;
  std::atomic<bool> expects_survival_ = false;
  std::atomic<bool> lost_flag_ = false;  // whether lost_ is an error, readable without the lock

  // Guards what a call touches before and after the wire; never held across it.
  mutable absl::Mutex mutex_;
  absl::Status lost_ ABSL_GUARDED_BY(mutex_);
  bool interrupted_ ABSL_GUARDED_BY(mutex_) = false;
  // Set while the daemon is away.
  std::optional<Deadline> away_until_ ABSL_GUARDED_BY(mutex_);
  uint64_t epoch_ ABSL_GUARDED_BY(mutex_) = 0;
  bool restarted_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_set<grpc::ClientContext*> under_way_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tenure

#endif  // CLIENT_SESSION_SESSION_STUB_H_

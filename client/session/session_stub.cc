#include "client/session/session_stub.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "client/session/backoff.h"
#include "client/session/channel.h"
#include "client/session/deadline.h"
#include "client/session/grpc_status.h"
#include "client/session/socket_probe.h"
#include "client/session/ticket_exchange.h"
#include "common/limits.h"
#include "common/socket_path.h"
#include "common/status_macros.h"

namespace tenure {
namespace {

// A third of the call's time, so that one lost reply does not use up all of it. At least 1 s, which
// is longer than any driver call of the daemon takes.
absl::Duration AttemptTimeout(absl::Duration whole, absl::Duration left) {
  return std::min(std::max(whole / 3, absl::Seconds(1)), left);
}

// Within a session any start would do. OpenSession is sent before there is a session: its id must
// differ from those with which this process has opened other sessions.
uint64_t RandomRequestId() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

}  // namespace

SessionStub::SessionStub(const Options& options, std::shared_ptr<grpc::Channel> channel)
    : options_(options),
      stub_(v1::Allocator::NewStub(std::move(channel))),
      next_request_id_(RandomRequestId()) {}

absl::StatusOr<std::unique_ptr<SessionStub>> SessionStub::Open(const Options& options) {
  TENURE_ASSIGN_OR_RETURN(std::shared_ptr<grpc::Channel> channel,
                          OpenChannel(options.socket, Bytes(kMaxMessageBytes), options.daemon_uid));
  auto stub = std::unique_ptr<SessionStub>(new SessionStub(options, std::move(channel)));
  v1::OpenSessionRequest request;
  request.set_request_id(stub->NextRequestId());
  request.set_name(options.name);
  const absl::Status opened =
      stub->Retry(&v1::Allocator::Stub::OpenSession, request, &stub->session_);
  if (!opened.ok()) {
    return absl::Status(opened.code(),
                        absl::StrCat("open a session at ", options.socket, ": ", opened.message()));
  }
  return stub;
}

uint64_t SessionStub::NextRequestId() {
  const uint64_t id = next_request_id_.fetch_add(1, std::memory_order_relaxed);
  // 0 on the wire means that the field was not set. Skip it when the counter wraps.
  return id != 0 ? id : next_request_id_.fetch_add(1, std::memory_order_relaxed);
}

absl::Status SessionStub::Usable() const {
  // The fork is checked first: in a forked child the mutex may be held by a thread that does not
  // exist there.
  TENURE_RETURN_IF_ERROR(fork_guard_.Check());
  if (!lost_flag_.load(std::memory_order_acquire)) return absl::OkStatus();
  absl::MutexLock lock(&mutex_);
  return lost_;
}

template <typename Request, typename Response>
absl::Status SessionStub::Attempt(Method<Request, Response> method, const Request& request,
                                  Response* response, absl::Duration timeout) {
  grpc::ClientContext context;
  SetTimeout(context, timeout);
  // While the channel has no connection, the call waits for one. A call that failed at once would
  // leave the socket unread until gRPC's backup poller runs, which is every five seconds.
  context.set_wait_for_ready(true);
  {
    // One lock for the test of cancelled_ and the insertion: CancelCalls either finds the context
    // in the set, or has set cancelled_ before.
    absl::MutexLock lock(&mutex_);
    if (cancelled_) return absl::CancelledError("the client is being closed");
    in_progress_.insert(&context);
  }
  const grpc::Status status = (stub_.get()->*method)(&context, request, response);
  // Removed before `context` is destroyed: CancelCalls and OnDaemonExit use the contexts in the
  // set.
  absl::MutexLock lock(&mutex_);
  in_progress_.erase(&context);
  return FromGrpc(status);
}

// Sends `request` again as it is: its request id tells the daemon that it is the same request, and
// the answer is the first one's. A new id here would make each lost reply of an Allocate a leak.
template <typename Request, typename Response>
absl::Status SessionStub::Retry(Method<Request, Response> method, const Request& request,
                                Response* response, bool* repeated) {
  const Deadline deadline = Deadline::After(options_.call_timeout);
  Backoff backoff;
  while (true) {
    TENURE_RETURN_IF_ERROR(Usable());
    const absl::Duration timeout = AttemptTimeout(options_.call_timeout, deadline.Left());
    const absl::Status status = Attempt(method, request, response, timeout);
    // OnDaemonExit cancels attempts when the session is lost. The caller gets the error of the lost
    // session, which the next round returns, and not "cancelled".
    if (!status.ok() && !Usable().ok()) continue;
    if (!IsTransient(status)) return status;
    if (repeated != nullptr) *repeated = true;
    const absl::Duration pause = backoff.Next();
    if (pause >= deadline.Left()) return TimeoutError(status);
    absl::SleepFor(pause);
  }
}

template <typename Request, typename Response>
absl::Status SessionStub::RetryRenewing(Method<Request, Response> method, const Request& request,
                                        Response* response) {
  const absl::Status status = Retry(method, request, response);
  if (status.code() == absl::StatusCode::kFailedPrecondition && Usable().ok() &&
      TryKeepAlive(options_.call_timeout).ok()) {
    // A process that was stopped for longer than its lease is suspended: the daemon refuses new
    // memory until a keep-alive arrives. That has just happened, so the refusal may be out of date.
    return Retry(method, request, response);
  }
  return status;
}

absl::Status SessionStub::TimeoutError(const absl::Status& last) const {
  const std::string span = absl::FormatDuration(options_.call_timeout);
  const absl::Status reachable = CheckSocket(options_.socket, options_.daemon_uid);
  if (!reachable.ok()) {
    return absl::UnavailableError(
        absl::StrCat("the daemon could not be reached for ", span, ": ", reachable.message()));
  }
  return absl::Status(last.code(), absl::StrCat("no success within ", span, ": ", last.message()));
}

absl::Status SessionStub::CheckLost(absl::Status status, bool only_names_session) {
  const bool lost = status.code() == absl::StatusCode::kAborted ||
                    (only_names_session && status.code() == absl::StatusCode::kNotFound);
  if (!lost) return status;
  absl::MutexLock lock(&mutex_);
  MarkLost(absl::StrCat("the daemon was restarted, or ended it: ", status.message()));
  return lost_;
}

void SessionStub::MarkLost(const std::string& why) {
  if (!lost_.ok()) return;
  lost_ = absl::AbortedError(
      absl::StrCat("the session at ", options_.socket, " is lost; connect again: ", why));
  // After lost_ is set: a thread that reads the flag reads lost_ next.
  lost_flag_.store(true, std::memory_order_release);
}

void SessionStub::OnDaemonExit() {
  absl::MutexLock lock(&mutex_);
  if (session_.survives_daemon() && expects_survival_.load(std::memory_order_relaxed)) {
    // Calls in progress are left alone: their retries reach the next daemon.
    restart_deadline_ = Deadline::After(options_.restart_window);
    return;
  }
  MarkLost("the daemon's process has ended");
  for (grpc::ClientContext* context : in_progress_) context->TryCancel();
}

void SessionStub::CheckRestartWindow() {
  absl::MutexLock lock(&mutex_);
  if (!restart_deadline_ || !restart_deadline_->Passed()) return;
  MarkLost(absl::StrCat("the daemon's process has ended, and no other was started within ",
                        absl::FormatDuration(options_.restart_window)));
}

bool SessionStub::TestAndClearRestarted() {
  absl::MutexLock lock(&mutex_);
  return std::exchange(restarted_, false);
}

absl::StatusOr<v1::Token> SessionStub::Allocate(v1::AllocateRequest request) {
  request.set_session_id(session_id());
  request.set_request_id(NextRequestId());
  v1::AllocateResponse response;
  TENURE_RETURN_IF_ERROR(
      CheckLost(RetryRenewing(&v1::Allocator::Stub::Allocate, request, &response),
                /*only_names_session=*/true));
  return std::move(*response.mutable_token());
}

absl::StatusOr<std::vector<v1::Token>> SessionStub::AllocateBatch(
    v1::AllocateBatchRequest request) {
  for (v1::AllocateRequest& one : *request.mutable_requests()) {
    one.set_session_id(session_id());
    one.set_request_id(NextRequestId());
  }
  v1::AllocateBatchResponse response;
  TENURE_RETURN_IF_ERROR(
      CheckLost(RetryRenewing(&v1::Allocator::Stub::AllocateBatch, request, &response),
                /*only_names_session=*/true));
  if (response.tokens_size() != request.requests_size()) {
    return absl::InternalError(absl::StrCat("the daemon answered ", request.requests_size(),
                                            " requests with ", response.tokens_size(), " tokens"));
  }
  return std::vector<v1::Token>(std::make_move_iterator(response.mutable_tokens()->begin()),
                                std::make_move_iterator(response.mutable_tokens()->end()));
}

absl::StatusOr<UniqueFd> SessionStub::RequestRegionFd(v1::RequestRegionFdRequest request) {
  request.set_session_id(session_id());
  const std::string fd_socket = FdSocketPath(options_.socket);
  const Deadline deadline = Deadline::After(options_.call_timeout);
  Backoff backoff;
  while (true) {
    v1::RequestRegionFdResponse response;
    TENURE_RETURN_IF_ERROR(Retry(&v1::Allocator::Stub::RequestRegionFd, request, &response));
    absl::StatusOr<UniqueFd> fd =
        ExchangeTicket(fd_socket, response.ticket(), deadline, options_.daemon_uid);
    // NOT_FOUND: the ticket was older than 10 s when it arrived. The next round gets a new one.
    if (fd.ok() || !(IsTransient(fd.status()) || absl::IsNotFound(fd.status()))) return fd;
    const absl::Duration pause = backoff.Next();
    if (pause >= deadline.Left()) return fd;
    absl::SleepFor(pause);
  }
}

absl::StatusOr<v1::FreeResponse> SessionStub::Free(v1::FreeRequest request) {
  request.set_session_id(session_id());
  v1::FreeResponse response;
  // No CheckLost: ABORTED and NOT_FOUND may concern the block alone. The caller sends a keep-alive
  // to find out whether they concern the session.
  TENURE_RETURN_IF_ERROR(Retry(&v1::Allocator::Stub::Free, request, &response));
  return response;
}

absl::StatusOr<v1::PublishSegmentResponse> SessionStub::PublishSegment(
    v1::PublishSegmentRequest request, bool* repeated) {
  request.set_session_id(session_id());
  request.set_request_id(NextRequestId());
  v1::PublishSegmentResponse response;
  // No CheckLost, as in Free: NOT_FOUND may concern a block alone.
  TENURE_RETURN_IF_ERROR(Retry(&v1::Allocator::Stub::PublishSegment, request, &response, repeated));
  return response;
}

absl::StatusOr<v1::AttachSegmentResponse> SessionStub::AttachSegment(
    v1::AttachSegmentRequest request) {
  request.set_session_id(session_id());
  request.set_request_id(NextRequestId());
  v1::AttachSegmentResponse response;
  TENURE_RETURN_IF_ERROR(
      CheckLost(RetryRenewing(&v1::Allocator::Stub::AttachSegment, request, &response),
                /*only_names_session=*/false));
  return response;
}

absl::Status SessionStub::DetachSegment(uint64_t attachment_id) {
  v1::DetachSegmentRequest request;
  request.set_session_id(session_id());
  request.set_attachment_id(attachment_id);
  v1::DetachSegmentResponse response;
  return Retry(&v1::Allocator::Stub::DetachSegment, request, &response);
}

absl::Status SessionStub::UnpublishSegment(const v1::UnpublishSegmentRequest& request) {
  v1::UnpublishSegmentResponse response;
  return Retry(&v1::Allocator::Stub::UnpublishSegment, request, &response);
}

absl::StatusOr<v1::KeepAliveResponse> SessionStub::TryKeepAlive(absl::Duration timeout) {
  v1::KeepAliveRequest request;
  request.set_session_id(session_id());
  v1::KeepAliveResponse response;
  TENURE_RETURN_IF_ERROR(
      CheckLost(Attempt(&v1::Allocator::Stub::KeepAlive, request, &response, timeout),
                /*only_names_session=*/true));
  absl::MutexLock lock(&mutex_);
  restart_deadline_.reset();
  if (epoch_ == 0) epoch_ = session_.epoch();
  // An epoch is one life of the daemon: another one in a good answer means that the next daemon has
  // restored the session. A daemon of an older version sends 0.
  if (response.epoch() != 0 && std::exchange(epoch_, response.epoch()) != response.epoch()) {
    restarted_ = true;
  }
  return response;
}

absl::StatusOr<v1::FreeBatchResponse> SessionStub::TryFreeBatch(v1::FreeBatchRequest request,
                                                                absl::Duration timeout) {
  for (v1::FreeRequest& one : *request.mutable_requests()) one.set_session_id(session_id());
  v1::FreeBatchResponse response;
  TENURE_RETURN_IF_ERROR(
      CheckLost(Attempt(&v1::Allocator::Stub::FreeBatch, request, &response, timeout),
                /*only_names_session=*/true));
  if (response.outcomes_size() != request.requests_size()) {
    return absl::InternalError(absl::StrCat("the daemon answered ", request.requests_size(),
                                            " frees with ", response.outcomes_size(), " outcomes"));
  }
  return response;
}

absl::Status SessionStub::TryReleaseRegions(v1::ReleaseRegionsRequest request,
                                            absl::Duration timeout) {
  request.set_session_id(session_id());
  v1::ReleaseRegionsResponse response;
  return CheckLost(Attempt(&v1::Allocator::Stub::ReleaseRegions, request, &response, timeout),
                   /*only_names_session=*/true);
}

absl::Status SessionStub::TryDetachSegment(uint64_t attachment_id, absl::Duration timeout) {
  v1::DetachSegmentRequest request;
  request.set_session_id(session_id());
  request.set_attachment_id(attachment_id);
  v1::DetachSegmentResponse response;
  return Attempt(&v1::Allocator::Stub::DetachSegment, request, &response, timeout);
}

void SessionStub::CancelCalls() {
  absl::MutexLock lock(&mutex_);
  cancelled_ = true;
  for (grpc::ClientContext* context : in_progress_) context->TryCancel();
}

absl::Status SessionStub::Close(absl::Duration timeout) {
  v1::CloseSessionRequest request;
  request.set_session_id(session_id());
  v1::CloseSessionResponse response;
  const Deadline deadline = Deadline::After(timeout);
  Backoff backoff;
  while (true) {
    // This does not use Attempt, which refuses to begin after CancelCalls.
    grpc::ClientContext context;
    SetTimeout(context, deadline.Left());
    const absl::Status status = FromGrpc(stub_->CloseSession(&context, request, &response));
    const absl::Duration pause = backoff.Next();
    if (IsGivenBack(status) || pause >= deadline.Left()) return status;
    absl::SleepFor(pause);
  }
}

}  // namespace tenure

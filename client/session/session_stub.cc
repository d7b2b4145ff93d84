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
#include "common/check.h"
#include "common/socket_path.h"

namespace tenure {
namespace {

// The largest request and answer are about a segment of 8192 tensors of at most 400 bytes.
constexpr Bytes kMaxMessage = MiB(4);

// A third of the whole, so that one lost reply does not use up a call's time; yet at least a
// second, which is longer than any driver call takes.
absl::Duration AttemptTimeout(absl::Duration whole, absl::Duration left) {
  return std::min(std::max(whole / 3, absl::Seconds(1)), left);
}

uint64_t RandomStart() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

}  // namespace

SessionStub::SessionStub(const Options& options, std::shared_ptr<grpc::Channel> channel)
    : options_(options),
      stub_(v1::Allocator::NewStub(std::move(channel))),
      next_request_id_(RandomStart()) {}

absl::StatusOr<std::unique_ptr<SessionStub>> SessionStub::Open(const Options& options) {
  absl::StatusOr<std::shared_ptr<grpc::Channel>> channel = OpenChannel(options.socket, kMaxMessage);
  if (!channel.ok()) return channel.status();
  auto connection = std::unique_ptr<SessionStub>(new SessionStub(options, *std::move(channel)));
  v1::OpenSessionRequest request;
  request.set_request_id(connection->NextRequestId());
  request.set_name(options.name);
  const absl::Status opened =
      connection->Repeat(&v1::Allocator::Stub::OpenSession, request, &connection->session_);
  if (!opened.ok()) {
    return absl::Status(opened.code(),
                        absl::StrCat("open a session at ", options.socket, ": ", opened.message()));
  }
  return connection;
}

uint64_t SessionStub::NextRequestId() {
  const uint64_t id = next_request_id_.fetch_add(1, std::memory_order_relaxed);
  return id != 0 ? id : next_request_id_.fetch_add(1, std::memory_order_relaxed);
}

absl::Status SessionStub::Usable() const {
  const absl::Status forked = fork_guard_.Check();
  if (!forked.ok()) return forked;
  if (!lost_flag_.load(std::memory_order_acquire)) return absl::OkStatus();
  absl::MutexLock lock(&mutex_);
  return lost_;
}

template <typename Request, typename Response>
absl::Status SessionStub::Attempt(Method<Request, Response> method, const Request& request,
                                  Response* response, absl::Duration timeout) {
  grpc::ClientContext context;
  SetTimeout(context, timeout);
  // While the channel has no connection a call waits for one. A call that failed at once instead
  // would leave the socket unread until gRPC's backup poller comes by, which is every five seconds.
  context.set_wait_for_ready(true);
  {
    absl::MutexLock lock(&mutex_);
    if (interrupted_) return absl::CancelledError("the client is being closed");
    under_way_.insert(&context);
  }
  const grpc::Status status = (stub_.get()->*method)(&context, request, response);
  absl::MutexLock lock(&mutex_);
  under_way_.erase(&context);
  return FromGrpc(status);
}

template <typename Request, typename Response>
absl::Status SessionStub::Repeat(Method<Request, Response> method, const Request& request,
                                 Response* response, bool* repeated) {
  const Deadline deadline = Deadline::After(options_.call_timeout);
  Backoff backoff;
  while (true) {
    const absl::Status usable = Usable();
    if (!usable.ok()) return usable;
    const absl::Duration timeout = AttemptTimeout(options_.call_timeout, deadline.Left());
    const absl::Status status = Attempt(method, request, response, timeout);
    // An attempt that was cut short because the daemon ended says only that.
    if (!status.ok() && !Usable().ok()) continue;
    if (!IsTransient(status)) return status;
    if (repeated != nullptr) *repeated = true;
    const absl::Duration pause = backoff.Next();
    if (pause >= deadline.Left()) return GiveUp(status);
    absl::SleepFor(pause);
  }
}

absl::Status SessionStub::GiveUp(const absl::Status& status) const {
  const std::string span = absl::FormatDuration(options_.call_timeout);
  const absl::Status reachable = CheckSocket(options_.socket);
  if (!reachable.ok()) {
    return absl::UnavailableError(
        absl::StrCat("the daemon could not be reached for ", span, ": ", reachable.message()));
  }
  return absl::Status(status.code(),
                      absl::StrCat("no success within ", span, ": ", status.message()));
}

absl::Status SessionStub::Settle(absl::Status status, bool only_names_session) {
  const bool lost = status.code() == absl::StatusCode::kAborted ||
                    (only_names_session && status.code() == absl::StatusCode::kNotFound);
  if (!lost) return status;
  absl::MutexLock lock(&mutex_);
  Lose(absl::StrCat("the daemon was restarted, or ended it: ", status.message()));
  return lost_;
}

void SessionStub::Lose(const std::string& why) {
  if (!lost_.ok()) return;
  lost_ = absl::AbortedError(
      absl::StrCat("the session at ", options_.socket, " is over; connect anew: ", why));
  lost_flag_.store(true, std::memory_order_release);
}

void SessionStub::NoteDaemonEnded() {
  absl::MutexLock lock(&mutex_);
  if (session_.survives_daemon() && expects_survival_.load(std::memory_order_relaxed)) {
    away_until_ = Deadline::After(options_.restart_window);
    return;
  }
  Lose("the daemon's process has ended");
  for (grpc::ClientContext* context : under_way_) context->TryCancel();
}

void SessionStub::CheckAway() {
  absl::MutexLock lock(&mutex_);
  if (!away_until_ || !away_until_->Passed()) return;
  Lose(absl::StrCat("the daemon's process has ended, and within ",
                    absl::FormatDuration(options_.restart_window), " no other took its place"));
}

bool SessionStub::TakeRestarted() {
  absl::MutexLock lock(&mutex_);
  return std::exchange(restarted_, false);
}

template <typename Request, typename Response>
absl::Status SessionStub::RepeatAwake(Method<Request, Response> method, const Request& request,
                                      Response* response) {
  const absl::Status status = Repeat(method, request, response);
  if (status.code() == absl::StatusCode::kFailedPrecondition && Usable().ok() &&
      TryKeepAlive(options_.call_timeout).ok()) {
    // A process that slept through its lease is suspended until it speaks up, which it has just
    // done.
    return Repeat(method, request, response);
  }
  return status;
}

absl::StatusOr<v1::Token> SessionStub::Allocate(v1::AllocateRequest request) {
  request.set_session_id(session_id());
  request.set_request_id(NextRequestId());
  v1::AllocateResponse response;
  const absl::Status status =
      Settle(RepeatAwake(&v1::Allocator::Stub::Allocate, request, &response),
             /*only_names_session=*/true);
  if (!status.ok()) return status;
  return std::move(*response.mutable_token());
}

absl::StatusOr<std::vector<v1::Token>> SessionStub::AllocateBatch(
    v1::AllocateBatchRequest request) {
  for (v1::AllocateRequest& one : *request.mutable_requests()) {
    one.set_session_id(session_id());
    one.set_request_id(NextRequestId());
  }
  v1::AllocateBatchResponse response;
  const absl::Status status =
      Settle(RepeatAwake(&v1::Allocator::Stub::AllocateBatch, request, &response),
             /*only_names_session=*/true);
  if (!status.ok()) return status;
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
    const absl::Status status = Repeat(&v1::Allocator::Stub::RequestRegionFd, request, &response);
    if (!status.ok()) return status;
    absl::StatusOr<UniqueFd> fd = ExchangeTicket(fd_socket, response.ticket(), deadline);
    // A ticket that grew too old on its way is as good as a daemon that was busy.
    if (fd.ok() || !(IsTransient(fd.status()) || absl::IsNotFound(fd.status()))) return fd;
    const absl::Duration pause = backoff.Next();
    if (pause >= deadline.Left()) return fd;
    absl::SleepFor(pause);
  }
}

absl::StatusOr<v1::FreeResponse> SessionStub::Free(v1::FreeRequest request) {
  request.set_session_id(session_id());
  v1::FreeResponse response;
  // ABORTED may be about the block alone; whether it is about the session a keep-alive tells.
  const absl::Status status = Repeat(&v1::Allocator::Stub::Free, request, &response);
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::PublishSegmentResponse> SessionStub::PublishSegment(
    v1::PublishSegmentRequest request, bool* repeated) {
  request.set_session_id(session_id());
  request.set_request_id(NextRequestId());
  v1::PublishSegmentResponse response;
  // ABORTED and NOT_FOUND may be about a block alone, as in Free.
  const absl::Status status =
      Repeat(&v1::Allocator::Stub::PublishSegment, request, &response, repeated);
  if (!status.ok()) return status;
  return response;
}

absl::StatusOr<v1::AttachSegmentResponse> SessionStub::AttachSegment(
    v1::AttachSegmentRequest request) {
  request.set_session_id(session_id());
  request.set_request_id(NextRequestId());
  v1::AttachSegmentResponse response;
  const absl::Status status =
      Settle(RepeatAwake(&v1::Allocator::Stub::AttachSegment, request, &response),
             /*only_names_session=*/false);
  if (!status.ok()) return status;
  return response;
}

absl::Status SessionStub::DetachSegment(uint64_t attachment_id) {
  v1::DetachSegmentRequest request;
  request.set_session_id(session_id());
  request.set_attachment_id(attachment_id);
  v1::DetachSegmentResponse response;
  return Repeat(&v1::Allocator::Stub::DetachSegment, request, &response);
}

absl::Status SessionStub::UnpublishSegment(const v1::UnpublishSegmentRequest& request) {
  v1::UnpublishSegmentResponse response;
  return Repeat(&v1::Allocator::Stub::UnpublishSegment, request, &response);
}

absl::StatusOr<v1::KeepAliveResponse> SessionStub::TryKeepAlive(absl::Duration timeout) {
  v1::KeepAliveRequest request;
  request.set_session_id(session_id());
  v1::KeepAliveResponse response;
  const absl::Status status =
      Settle(Attempt(&v1::Allocator::Stub::KeepAlive, request, &response, timeout),
             /*only_names_session=*/true);
  if (!status.ok()) return status;
  absl::MutexLock lock(&mutex_);
  away_until_.reset();
  if (epoch_ == 0) epoch_ = session_.epoch();
  // A daemon that knows no such thing says nothing of it.
  if (response.epoch() != 0 && std::exchange(epoch_, response.epoch()) != response.epoch()) {
    restarted_ = true;
  }
  return response;
}

absl::StatusOr<v1::FreeBatchResponse> SessionStub::TryFreeBatch(v1::FreeBatchRequest request,
                                                                absl::Duration timeout) {
  for (v1::FreeRequest& one : *request.mutable_requests()) one.set_session_id(session_id());
  v1::FreeBatchResponse response;
  const absl::Status status =
      Settle(Attempt(&v1::Allocator::Stub::FreeBatch, request, &response, timeout),
             /*only_names_session=*/true);
  if (!status.ok()) return status;
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
  return Settle(Attempt(&v1::Allocator::Stub::ReleaseRegions, request, &response, timeout),
                /*only_names_session=*/true);
}

absl::Status SessionStub::TryDetachSegment(uint64_t attachment_id, absl::Duration timeout) {
  v1::DetachSegmentRequest request;
  request.set_session_id(session_id());
  request.set_attachment_id(attachment_id);
  v1::DetachSegmentResponse response;
  return Attempt(&v1::Allocator::Stub::DetachSegment, request, &response, timeout);
}

void SessionStub::Interrupt() {
  absl::MutexLock lock(&mutex_);
  interrupted_ = true;
  for (grpc::ClientContext* context : under_way_) context->TryCancel();
}

absl::Status SessionStub::Close(absl::Duration timeout) {
  v1::CloseSessionRequest request;
  request.set_session_id(session_id());
  v1::CloseSessionResponse response;
  grpc::ClientContext context;
  SetTimeout(context, timeout);
  return FromGrpc(stub_->CloseSession(&context, request, &response));
}

}  // namespace tenure

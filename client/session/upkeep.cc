#include "client/session/upkeep.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/check.h"
#include "common/limits.h"

namespace tenure {
namespace {

constexpr int kBatch = static_cast<int>(kMaxBatch);

// A wrong number from the daemon must not make the thread a busy loop, nor stop the renewals.
absl::Duration BoundedTtl(uint64_t ttl_ms) {
  return absl::Milliseconds(std::clamp<uint64_t>(ttl_ms, 30, 24 * 3600 * 1000));
}

}  // namespace

Upkeep::Upkeep(SessionStub& stub, RegionCache* regions, std::function<void(absl::Status)> on_lost,
               std::function<void()> on_restart)
    : stub_(stub),
      regions_(regions),
      on_lost_(std::move(on_lost)),
      on_restart_(std::move(on_restart)),
      ttl_(BoundedTtl(stub.session().lease_ttl_ms())),
      renew_at_(Deadline::After(ttl_ / 3)),
      thread_([this] { Run(); }) {}

Upkeep::~Upkeep() {
  TENURE_CHECK(std::this_thread::get_id() != thread_.get_id());
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    has_work_.SignalAll();
  }
  thread_.join();
}

void Upkeep::QueueFree(v1::FreeRequest request) {
  absl::MutexLock lock(&mutex_);
  if (lost_) return;
  ++frees_queued_;
  // The thread needs one signal for all that it finds; beside later ones it would only wake again.
  if (frees_.empty()) has_work_.SignalAll();
  frees_.push_back(std::move(request));
}

void Upkeep::QueueDetach(uint64_t attachment_id) {
  absl::MutexLock lock(&mutex_);
  if (lost_) return;
  ++detaches_queued_;
  detaches_.push_back(attachment_id);
  has_work_.SignalAll();
}

void Upkeep::QueueIdle(absl::Span<const uint64_t> region_ids) {
  if (region_ids.empty()) return;
  absl::MutexLock lock(&mutex_);
  if (lost_) return;
  idle_.insert(idle_.end(), region_ids.begin(), region_ids.end());
  has_work_.SignalAll();
}

void Upkeep::RenewNow() {
  absl::MutexLock lock(&mutex_);
  renew_now_ = true;
  has_work_.SignalAll();
}

bool Upkeep::HasQueuedFrees() const {
  absl::MutexLock lock(&mutex_);
  return frees_answered_ < frees_queued_;
}

absl::Status Upkeep::Flush(Deadline deadline) {
  absl::MutexLock lock(&mutex_);
  const uint64_t frees = frees_queued_;
  const uint64_t detaches = detaches_queued_;
  const auto reached = [this, frees, detaches]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return frees_answered_ >= frees && detaches_answered_ >= detaches;
  };
  if (!answered_.AwaitFor(mutex_, absl::Condition(&reached), deadline.Left())) {
    return absl::DeadlineExceededError(
        absl::StrCat(frees - std::min(frees_answered_, frees), " of the queued frees and ",
                     detaches - std::min(detaches_answered_, detaches),
                     " of the queued detaches were not answered in time; they stay queued"));
  }
  if (lost_) return stub_.Usable();
  return std::exchange(failure_, absl::OkStatus());
}

bool Upkeep::HasWork() const {
  return stopping_ || renew_now_ || !frees_.empty() || !idle_.empty() || !detaches_.empty();
}

bool Upkeep::AwaitWork() {
  const bool unanswered = unanswered_frees_.requests_size() > 0 ||
                          unanswered_regions_.region_ids_size() > 0 || unanswered_detach_;
  absl::MutexLock lock(&mutex_);
  // What is unanswered is sent again at once: Pause has waited before.
  if (!unanswered) {
    has_work_.AwaitFor(mutex_, absl::Condition(this, &Upkeep::HasWork), renew_at_.Left());
  }
  if (std::exchange(renew_now_, false)) renew_at_ = Deadline::After(absl::ZeroDuration());
  return !stopping_;
}

bool Upkeep::Pause(absl::Duration span) {
  absl::MutexLock lock(&mutex_);
  return !has_work_.AwaitFor(mutex_, absl::Condition(&stopping_), span);
}

// The order of a round. The lease comes first: while it lives the rest can wait. Frees come before
// idle regions, because their answers name regions that have just become idle. Each step runs only
// if the one before was answered, so that a daemon that does not answer costs one attempt per round
// and not four.
void Upkeep::Run() {
  while (AwaitWork()) {
    stub_.CheckRestartWindow();
    if (!stub_.Usable().ok()) return EndAfterLoss();
    absl::Status status = Renew();
    if (status.ok()) status = SendFrees();
    if (status.ok()) status = ReturnRegions();
    if (status.ok()) status = SendDetaches();
    if (!stub_.Usable().ok()) return EndAfterLoss();
    if (status.ok()) {
      backoff_.Reset();
    } else if (!Pause(backoff_.Next())) {
      return;
    }
  }
}

absl::Duration Upkeep::AttemptTimeout() const {
  // The lease is renewed after a third of its time. An attempt that hangs for a quarter leaves time
  // for another renewal before the lease ends.
  return std::min(std::max(ttl_ / 4, absl::Milliseconds(100)), stub_.call_timeout());
}

absl::Status Upkeep::Renew() {
  if (!renew_at_.Passed()) return absl::OkStatus();
  const absl::StatusOr<v1::KeepAliveResponse> response = stub_.TryKeepAlive(AttemptTimeout());
  if (!response.ok()) return response.status();
  ttl_ = BoundedTtl(response->lease_ttl_ms());
  renew_at_ = Deadline::After(ttl_ / 3);
  // Outside of every lock: the function is the session's and calls the user's.
  if (stub_.TestAndClearRestarted()) on_restart_();
  return absl::OkStatus();
}

absl::Status Upkeep::SendFrees() {
  {
    // Unanswered frees stay in the batch with their request ids. The lock ends before the call:
    // callers must be able to queue while the daemon is slow.
    absl::MutexLock lock(&mutex_);
    while (!frees_.empty() && unanswered_frees_.requests_size() < kBatch) {
      *unanswered_frees_.add_requests() = std::move(frees_.front());
      frees_.pop_front();
    }
  }
  if (unanswered_frees_.requests_size() == 0) return absl::OkStatus();
  const absl::StatusOr<v1::FreeBatchResponse> response =
      stub_.TryFreeBatch(unanswered_frees_, AttemptTimeout());
  // Whatever refused the batch, its blocks are still held: every free is kept.
  return response.ok() ? ReadOutcomes(*response) : response.status();
}

absl::Status Upkeep::ReadOutcomes(const v1::FreeBatchResponse& response) {
  QueueIdle(response.idle_region_ids());
  v1::FreeBatchRequest repeat;
  absl::Status failure;
  for (int i = 0; i < response.outcomes_size(); ++i) {
    const v1::FreeBatchResponse::Outcome& outcome = response.outcomes(i);
    const absl::Status status(static_cast<absl::StatusCode>(outcome.code()), outcome.message());
    if (!IsGivenBack(status)) {
      *repeat.add_requests() = std::move(*unanswered_frees_.mutable_requests(i));
    } else {
      failure.Update(status);
    }
  }
  CountAnswered(response.outcomes_size() - repeat.requests_size(), failure);
  unanswered_frees_ = std::move(repeat);
  // If the daemon does not know an allocation, it may not know the session either. A keep-alive
  // finds out.
  if (!failure.ok()) RenewNow();
  return unanswered_frees_.requests_size() == 0
             ? absl::OkStatus()
             : absl::UnavailableError("some frees have to be sent again");
}

void Upkeep::CountAnswered(int frees, const absl::Status& failure) {
  absl::MutexLock lock(&mutex_);
  frees_answered_ += static_cast<uint64_t>(frees);
  failure_.Update(failure);
  answered_.SignalAll();
}

absl::Status Upkeep::ReturnRegions() {
  std::vector<uint64_t> idle;
  {
    absl::MutexLock lock(&mutex_);
    idle.swap(idle_);
  }
  // From here until EndReturn a token for one of these regions waits. Without that, a block granted
  // meanwhile could map the region just before the daemon takes the region away.
  if (regions_ != nullptr) idle = regions_->BeginReturn(idle);
  unanswered_regions_.mutable_region_ids()->Add(idle.begin(), idle.end());
  while (unanswered_regions_.region_ids_size() > 0) {
    v1::ReleaseRegionsRequest request;
    const int count = std::min(unanswered_regions_.region_ids_size(), kBatch);
    const auto first = unanswered_regions_.region_ids().begin();
    request.mutable_region_ids()->Add(first, first + count);
    const absl::Status status = stub_.TryReleaseRegions(request, AttemptTimeout());
    if (!IsGivenBack(status)) return status;
    if (regions_ != nullptr) regions_->EndReturn(request.region_ids());
    unanswered_regions_.mutable_region_ids()->erase(first, first + count);
  }
  return absl::OkStatus();
}

absl::Status Upkeep::SendDetaches() {
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      if (!unanswered_detach_ && !detaches_.empty()) {
        unanswered_detach_ = detaches_.front();
        detaches_.pop_front();
      }
    }
    if (!unanswered_detach_) return absl::OkStatus();
    const absl::Status status = stub_.TryDetachSegment(*unanswered_detach_, AttemptTimeout());
    if (!IsGivenBack(status)) return status;
    unanswered_detach_.reset();
    absl::MutexLock lock(&mutex_);
    ++detaches_answered_;
    answered_.SignalAll();
    // If the daemon does not know the attachment, it may not know the session either. A keep-alive
    // finds out.
    if (!status.ok()) renew_now_ = true;
  }
}

void Upkeep::EndAfterLoss() {
  {
    absl::MutexLock lock(&mutex_);
    // Nothing is queued after this, and a waiting Flush returns: the daemon has no session any more
    // of which it could free something.
    lost_ = true;
    frees_.clear();
    idle_.clear();
    frees_answered_ = frees_queued_;
    detaches_.clear();
    detaches_answered_ = detaches_queued_;
    answered_.SignalAll();
  }
  if (regions_ != nullptr) {
    regions_->EndReturn(unanswered_regions_.region_ids());
    regions_->EndSession();
  }
  // Last and without the lock: the user's function may call the client.
  if (on_lost_) on_lost_(stub_.Usable());
}

}  // namespace tenure

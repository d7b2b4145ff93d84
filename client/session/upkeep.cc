#include "client/session/upkeep.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/check.h"

namespace tenure {
namespace {

// What one FreeBatch or ReleaseRegions may name; the daemon's limit.
constexpr int kMaxBatch = 1024;

// A lease so short or long that no daemon would mean it must not turn the thread into a busy loop
// or stop it.
absl::Duration SaneTtl(uint64_t ttl_ms) {
  return absl::Milliseconds(std::clamp<uint64_t>(ttl_ms, 30, 24 * 3600 * 1000));
}

}  // namespace

Upkeep::Upkeep(SessionStub& connection, RegionCache* regions,
               std::function<void(absl::Status)> on_lost, std::function<void()> on_restart)
    : stub_(connection),
      regions_(regions),
      on_lost_(std::move(on_lost)),
      on_restart_(std::move(on_restart)),
      ttl_(SaneTtl(connection.session().lease_ttl_ms())),
      renew_at_(Deadline::After(ttl_ / 3)),
      thread_([this] { Run(); }) {}

Upkeep::~Upkeep() {
  TENURE_CHECK(std::this_thread::get_id() != thread_.get_id());
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

void Upkeep::QueueFree(v1::FreeRequest request) {
  absl::MutexLock lock(&mutex_);
  if (lost_) return;
  ++queued_;
  frees_.push_back(std::move(request));
}

void Upkeep::QueueDetach(uint64_t attachment_id) {
  absl::MutexLock lock(&mutex_);
  if (lost_) return;
  ++detaches_queued_;
  detaches_.push_back(attachment_id);
}

void Upkeep::QueueIdle(absl::Span<const uint64_t> region_ids) {
  if (region_ids.empty()) return;
  absl::MutexLock lock(&mutex_);
  if (!lost_) idle_.insert(idle_.end(), region_ids.begin(), region_ids.end());
}

void Upkeep::Nudge() {
  absl::MutexLock lock(&mutex_);
  nudged_ = true;
}

bool Upkeep::HasQueuedFrees() const {
  absl::MutexLock lock(&mutex_);
  return settled_ < queued_;
}

absl::Status Upkeep::Flush(Deadline deadline) {
  absl::MutexLock lock(&mutex_);
  const uint64_t frees = queued_;
  const uint64_t detaches = detaches_queued_;
  const auto reached = [this, frees, detaches]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return settled_ >= frees && detaches_settled_ >= detaches;
  };
  if (!mutex_.AwaitWithTimeout(absl::Condition(&reached), deadline.Left())) {
    return absl::DeadlineExceededError(
        absl::StrCat(frees - std::min(settled_, frees), " of the queued frees and ",
                     detaches - std::min(detaches_settled_, detaches),
                     " of the queued detaches were not answered in time; they stay queued"));
  }
  if (lost_) return stub_.Usable();
  return std::exchange(failure_, absl::OkStatus());
}

bool Upkeep::Due() const {
  return stopping_ || nudged_ || !frees_.empty() || !idle_.empty() || !detaches_.empty();
}

bool Upkeep::AwaitWork() {
  const bool in_hand = frees_in_hand_.requests_size() > 0 ||
                       regions_in_hand_.region_ids_size() > 0 || detach_in_hand_;
  absl::MutexLock lock(&mutex_);
  if (!in_hand) mutex_.AwaitWithTimeout(absl::Condition(this, &Upkeep::Due), renew_at_.Left());
  if (std::exchange(nudged_, false)) renew_at_ = Deadline::After(absl::ZeroDuration());
  return !stopping_;
}

bool Upkeep::Pause(absl::Duration span) {
  absl::MutexLock lock(&mutex_);
  return !mutex_.AwaitWithTimeout(absl::Condition(&stopping_), span);
}

void Upkeep::Run() {
  while (AwaitWork()) {
    stub_.CheckAway();
    if (!stub_.Usable().ok()) return Abandon();
    absl::Status status = Renew();
    if (status.ok()) status = SendFrees();
    if (status.ok()) status = ReturnRegions();
    if (status.ok()) status = SendDetaches();
    if (!stub_.Usable().ok()) return Abandon();
    if (status.ok()) {
      backoff_.Reset();
    } else if (!Pause(backoff_.Next())) {
      return;
    }
  }
}

absl::Duration Upkeep::AttemptTimeout() const {
  // An attempt that hangs must leave time for the next renewal.
  return std::min(std::max(ttl_ / 4, absl::Milliseconds(100)), stub_.call_timeout());
}

absl::Status Upkeep::Renew() {
  if (!renew_at_.Passed()) return absl::OkStatus();
  const absl::StatusOr<v1::KeepAliveResponse> response = stub_.TryKeepAlive(AttemptTimeout());
  if (!response.ok()) return response.status();
  ttl_ = SaneTtl(response->lease_ttl_ms());
  renew_at_ = Deadline::After(ttl_ / 3);
  if (stub_.TakeRestarted()) on_restart_();
  return absl::OkStatus();
}

absl::Status Upkeep::SendFrees() {
  {
    absl::MutexLock lock(&mutex_);
    while (!frees_.empty() && frees_in_hand_.requests_size() < kMaxBatch) {
      *frees_in_hand_.add_requests() = std::move(frees_.front());
      frees_.pop_front();
    }
  }
  if (frees_in_hand_.requests_size() == 0) return absl::OkStatus();
  const absl::StatusOr<v1::FreeBatchResponse> response =
      stub_.TryFreeBatch(frees_in_hand_, AttemptTimeout());
  if (response.ok()) return Account(*response);
  if (IsTransient(response.status())) return response.status();
  Settle(frees_in_hand_.requests_size(), response.status());
  frees_in_hand_.Clear();
  return absl::OkStatus();
}

absl::Status Upkeep::Account(const v1::FreeBatchResponse& response) {
  QueueIdle(response.idle_region_ids());
  v1::FreeBatchRequest repeat;
  absl::Status failure;
  for (int i = 0; i < response.outcomes_size(); ++i) {
    const v1::FreeBatchResponse::Outcome& outcome = response.outcomes(i);
    const absl::Status status(static_cast<absl::StatusCode>(outcome.code()), outcome.message());
    if (IsTransient(status)) {
      *repeat.add_requests() = std::move(*frees_in_hand_.mutable_requests(i));
    } else {
      failure.Update(status);
    }
  }
  Settle(response.outcomes_size() - repeat.requests_size(), failure);
  frees_in_hand_ = std::move(repeat);
  // An allocation that the daemon does not know any more may mean a session that it does not know
  // any more.
  if (!failure.ok()) Nudge();
  return frees_in_hand_.requests_size() == 0
             ? absl::OkStatus()
             : absl::UnavailableError("some frees are to be repeated");
}

void Upkeep::Settle(int frees, const absl::Status& failure) {
  absl::MutexLock lock(&mutex_);
  settled_ += static_cast<uint64_t>(frees);
  failure_.Update(failure);
}

absl::Status Upkeep::ReturnRegions() {
  std::vector<uint64_t> idle;
  {
    absl::MutexLock lock(&mutex_);
    idle.swap(idle_);
  }
  if (regions_ != nullptr) idle = regions_->Retire(idle);
  regions_in_hand_.mutable_region_ids()->Add(idle.begin(), idle.end());
  while (regions_in_hand_.region_ids_size() > 0) {
    v1::ReleaseRegionsRequest request;
    const int count = std::min(regions_in_hand_.region_ids_size(), kMaxBatch);
    const auto first = regions_in_hand_.region_ids().begin();
    request.mutable_region_ids()->Add(first, first + count);
    const absl::Status status = stub_.TryReleaseRegions(request, AttemptTimeout());
    if (IsTransient(status)) return status;
    if (regions_ != nullptr) regions_->Unbar(request.region_ids());
    regions_in_hand_.mutable_region_ids()->erase(first, first + count);
  }
  return absl::OkStatus();
}

absl::Status Upkeep::SendDetaches() {
  while (true) {
    {
      absl::MutexLock lock(&mutex_);
      if (!detach_in_hand_ && !detaches_.empty()) {
        detach_in_hand_ = detaches_.front();
        detaches_.pop_front();
      }
    }
    if (!detach_in_hand_) return absl::OkStatus();
    const absl::Status status = stub_.TryDetachSegment(*detach_in_hand_, AttemptTimeout());
    // Any other answer means that the attachment is over.
    if (IsTransient(status)) return status;
    detach_in_hand_.reset();
    absl::MutexLock lock(&mutex_);
    ++detaches_settled_;
    // An attachment that the daemon does not know may mean a session that it does not know.
    if (!status.ok()) nudged_ = true;
  }
}

void Upkeep::Abandon() {
  {
    absl::MutexLock lock(&mutex_);
    lost_ = true;
    frees_.clear();
    idle_.clear();
    settled_ = queued_;
    detaches_.clear();
    detaches_settled_ = detaches_queued_;
  }
  if (regions_ != nullptr) {
    regions_->Unbar(regions_in_hand_.region_ids());
    regions_->Orphan();
  }
  if (on_lost_) on_lost_(stub_.Usable());
}

}  // namespace tenure

#include "client/ctl/replay/live_totals.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <new>
#include <utility>

#include "common/check.h"

namespace tenure::ctl {

struct LiveTotals::Page {
  std::atomic<uint64_t> live;
  std::atomic<uint64_t> peak;
  std::atomic<uint64_t> look_above;
  std::array<std::atomic<uint64_t>, kMaxWorkers> of_worker;
};

static_assert(std::atomic<uint64_t>::is_always_lock_free, "a lock would not be shared");

absl::StatusOr<LiveTotals> LiveTotals::Create() {
  const int fd = memfd_create("tenurectl-replay", MFD_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, "memfd_create");
  if (ftruncate(fd, sizeof(Page)) != 0) {
    const int error = errno;
    close(fd);
    return absl::ErrnoToStatus(error, "ftruncate");
  }
  return Map(fd);
}

absl::StatusOr<LiveTotals> LiveTotals::Open(int fd) { return Map(fd); }

absl::StatusOr<LiveTotals> LiveTotals::Map(int fd) {
  void* memory = mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) {
    const int error = errno;
    close(fd);
    return absl::ErrnoToStatus(error, "map the shared totals");
  }
  // A fresh memfd is all zero bytes, which is what the counters of a fresh page are.
  return LiveTotals(fd, std::launder(static_cast<Page*>(memory)));
}

LiveTotals::LiveTotals(LiveTotals&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), page_(std::exchange(other.page_, nullptr)) {}

LiveTotals::~LiveTotals() {
  if (page_ != nullptr) munmap(page_, sizeof(Page));
  if (fd_ >= 0) close(fd_);
}

bool LiveTotals::Add(size_t worker, Bytes size) {
  TENURE_CHECK(worker < kMaxWorkers);
  page_->of_worker[worker] += size.value();
  const uint64_t now = page_->live += size.value();
  uint64_t peak = page_->peak;
  while (now > peak && !page_->peak.compare_exchange_weak(peak, now)) {
  }
  uint64_t look_above = page_->look_above;
  // One of them looks; who loses the race was overtaken by one that does.
  return now > look_above && page_->look_above.compare_exchange_strong(look_above, now + now / 64);
}

void LiveTotals::Subtract(size_t worker, Bytes size) {
  TENURE_CHECK(worker < kMaxWorkers);
  page_->of_worker[worker] -= size.value();
  page_->live -= size.value();
}

void LiveTotals::Retire(size_t worker) {
  TENURE_CHECK(worker < kMaxWorkers);
  page_->live -= page_->of_worker[worker].exchange(0);
}

Bytes LiveTotals::peak() const { return Bytes(page_->peak); }

}  // namespace tenure::ctl

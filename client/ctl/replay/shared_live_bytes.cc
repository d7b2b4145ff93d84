#include "client/ctl/replay/shared_live_bytes.h"

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

struct SharedLiveBytes::Page {
  std::atomic<uint64_t> live;
  std::atomic<uint64_t> peak;
  std::atomic<uint64_t> check_above;
  std::array<std::atomic<uint64_t>, kMaxWorkers> of_worker;
};

static_assert(std::atomic<uint64_t>::is_always_lock_free,
              "a lock beside the value would not be shared between processes");

absl::StatusOr<SharedLiveBytes> SharedLiveBytes::Create() {
  const int fd = memfd_create("tenurectl-replay", MFD_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, "memfd_create");
  if (ftruncate(fd, sizeof(Page)) != 0) {
    const int error = errno;
    close(fd);
    return absl::ErrnoToStatus(error, "ftruncate");
  }
  return Map(fd);
}

absl::StatusOr<SharedLiveBytes> SharedLiveBytes::Open(int fd) { return Map(fd); }

absl::StatusOr<SharedLiveBytes> SharedLiveBytes::Map(int fd) {
  void* memory = mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) {
    const int error = errno;
    close(fd);
    return absl::ErrnoToStatus(error, "map the shared counters");
  }
  // A new memfd holds only zero bytes, and a counter of 0 is all zero bytes: nothing to construct.
  return SharedLiveBytes(fd, std::launder(static_cast<Page*>(memory)));
}

SharedLiveBytes::SharedLiveBytes(SharedLiveBytes&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), page_(std::exchange(other.page_, nullptr)) {}

SharedLiveBytes::~SharedLiveBytes() {
  if (page_ != nullptr) munmap(page_, sizeof(Page));
  if (fd_ >= 0) close(fd_);
}

bool SharedLiveBytes::Add(size_t worker, Bytes size) {
  TENURE_CHECK(worker < kMaxWorkers);
  page_->of_worker[worker] += size.value();
  const uint64_t now = page_->live += size.value();
  // A failed exchange loads the other worker's peak into `peak`, and the loop compares again.
  uint64_t peak = page_->peak;
  while (now > peak && !page_->peak.compare_exchange_weak(peak, now)) {
  }
  uint64_t check_above = page_->check_above;
  // Only one worker wins the exchange and checks. A worker that loses need not: the winner's check
  // sees at least as many bytes.
  return now > check_above &&
         page_->check_above.compare_exchange_strong(check_above, now + now / 64);
}

void SharedLiveBytes::Subtract(size_t worker, Bytes size) {
  TENURE_CHECK(worker < kMaxWorkers);
  page_->of_worker[worker] -= size.value();
  page_->live -= size.value();
}

void SharedLiveBytes::Retire(size_t worker) {
  TENURE_CHECK(worker < kMaxWorkers);
  // The exchange makes a second call subtract nothing.
  page_->live -= page_->of_worker[worker].exchange(0);
}

Bytes SharedLiveBytes::peak() const { return Bytes(page_->peak); }

}  // namespace tenure::ctl

// The bytes that the workers of a replay hold together, counted in memory that they share.
#ifndef CLIENT_CTL_REPLAY_SHARED_LIVE_BYTES_H_
#define CLIENT_CTL_REPLAY_SHARED_LIVE_BYTES_H_

#include <cstddef>

#include "absl/status/statusor.h"

#include "common/bytes.h"

namespace tenure::ctl {

// Counts the bytes that all workers hold now, and the most that they held at one moment. The
// counters are shared because samples taken by one process would miss the peak.
//
// Owns: the mapping, and in the process that made it the file descriptor.
// Thread safety: thread-safe, also between processes. Each worker changes only its own number.
class SharedLiveBytes {
 public:
  static constexpr size_t kMaxWorkers = 256;

  static absl::StatusOr<SharedLiveBytes> Create();
  // The counters that another process made, from the descriptor that this process inherited.
  static absl::StatusOr<SharedLiveBytes> Open(int fd);
  SharedLiveBytes(SharedLiveBytes&& other) noexcept;
  SharedLiveBytes& operator=(SharedLiveBytes&&) = delete;
  ~SharedLiveBytes();

  // The descriptor that a child inherits. It is closed on exec unless the spawner clears the flag.
  int fd() const { return fd_; }

  // Returns true when this worker should check the daemon's books: the sum has grown by 1/64 since
  // the last check that was requested.
  bool Add(size_t worker, Bytes size);
  void Subtract(size_t worker, Bytes size);
  // The worker is dead: its bytes are taken off the sum.
  void Retire(size_t worker);
  Bytes peak() const;

 private:
  struct Page;
  SharedLiveBytes(int fd, Page* page) : fd_(fd), page_(page) {}
  static absl::StatusOr<SharedLiveBytes> Map(int fd);

  int fd_;
  Page* page_;
};

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_REPLAY_SHARED_LIVE_BYTES_H_

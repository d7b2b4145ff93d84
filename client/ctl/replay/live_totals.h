#ifndef CLIENT_CTL_REPLAY_LIVE_TOTALS_H_
#define CLIENT_CTL_REPLAY_LIVE_TOTALS_H_

#include <cstddef>

#include "absl/status/statusor.h"

#include "common/bytes.h"

namespace tenure::ctl {

// How many bytes the workers of a replay hold together, and held at most at one moment: a page of
// counters that they share, because sampling would miss the peak.
//
// Owns: the mapping, and in the process that made it the file descriptor.
// Thread safety: thread-safe, also between processes; one worker writes its own line.
class LiveTotals {
 public:
  static constexpr size_t kMaxWorkers = 256;

  static absl::StatusOr<LiveTotals> Create();
  // The totals that another process made, by the descriptor inherited from it.
  static absl::StatusOr<LiveTotals> Open(int fd);
  LiveTotals(LiveTotals&& other) noexcept;
  LiveTotals& operator=(LiveTotals&&) = delete;
  ~LiveTotals();

  // For a child to inherit; closed on exec unless the spawner says otherwise.
  int fd() const { return fd_; }

  // True where somebody should look at the daemon's books: the workers together hold more than at
  // the last look that was called for, by a little.
  bool Add(size_t worker, Bytes size);
  void Subtract(size_t worker, Bytes size);
  // The worker is dead: what it held does not count any more.
  void Retire(size_t worker);
  Bytes peak() const;

 private:
  struct Page;
  LiveTotals(int fd, Page* page) : fd_(fd), page_(page) {}
  static absl::StatusOr<LiveTotals> Map(int fd);

  int fd_;
  Page* page_;
};

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_REPLAY_LIVE_TOTALS_H_

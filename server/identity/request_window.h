// The last requests of one session and their results, so that a repeated one takes effect once.
#ifndef SERVER_IDENTITY_REQUEST_WINDOW_H_
#define SERVER_IDENTITY_REQUEST_WINDOW_H_

#include <cstdint>
#include <deque>

#include "absl/container/flat_hash_map.h"

#include "server/identity/ids.h"

namespace tenure::server {

// Remembers the last kRemembered requests. A client repeats a request only within its deadline, and
// has far fewer requests under way at once.
//
// Thread safety: thread-compatible.
class RequestWindow {
 public:
  static constexpr size_t kRemembered = 2048;

  enum class State : uint8_t { kUnderWay, kGranted, kFreed, kAttached };
  struct Request {
    State state = State::kUnderWay;
    uint64_t id = 0;  // of the allocation, or with kAttached of the attachment
  };

  // This request; nullptr when it is not remembered. Valid until the next call of another method.
  const Request* Find(uint64_t request_id) const {
    const auto found = requests_.find(request_id);
    return found == requests_.end() ? nullptr : &found->second;
  }

  // Records the state of a request, in place of an earlier state. Forgets the oldest request when
  // there are too many.
  void Note(uint64_t request_id, Request request) {
    const auto [place, added] = requests_.insert_or_assign(request_id, request);
    if (!added) return;
    order_.push_back(request_id);
    if (order_.size() <= kRemembered) return;
    requests_.erase(order_.front());
    order_.pop_front();
  }

  // Forgets a request that failed, so that it may be tried again. Its id stays in order_ until it
  // is the oldest: a search for it there would take time in proportion to kRemembered.
  void Forget(uint64_t request_id) { requests_.erase(request_id); }

  // Calls `visit(request_id, request)` for each remembered request, oldest first.
  template <typename Visit>
  void ForEach(Visit visit) const {
    for (const uint64_t request_id : order_) {
      if (const Request* request = Find(request_id)) visit(request_id, *request);
    }
  }

 private:
  absl::flat_hash_map<uint64_t, Request> requests_;
  std::deque<uint64_t> order_;
};

}  // namespace tenure::server

#endif  // SERVER_IDENTITY_REQUEST_WINDOW_H_

// The threads that keep the device heap's reserve full and its returned regions clear.
#ifndef SERVER_BACKGROUND_HEAP_UPKEEP_H_
#define SERVER_BACKGROUND_HEAP_UPKEEP_H_

#include <atomic>
#include <thread>

#include "server/memory/device_heap.h"

namespace tenure::server {

// Does the heap's slow work on two threads, so that no call waits for it and neither kind of work
// delays the other. The clearing thread clears regions, which takes 15 ms for 64 GiB. The supply
// thread frees regions to the driver, which takes 33 ms for 64 GiB, and refills the reserve.
//
// Owns: the two threads.
// Borrows: the heap.
// Thread safety: thread-confined: Start, Stop and the destructor on one thread.
class HeapUpkeep {
 public:
  explicit HeapUpkeep(DeviceHeap& heap) : heap_(heap) {}
  ~HeapUpkeep() { Stop(); }
  HeapUpkeep(const HeapUpkeep&) = delete;
  HeapUpkeep& operator=(const HeapUpkeep&) = delete;

  void Start();
  // Returns when both threads have ended; work that is left stays in the heap. Idempotent.
  void Stop();

 private:
  void ClearRegions();
  void SupplyRegions();

  DeviceHeap& heap_;
  std::atomic<bool> stopping_ = false;
  std::thread clearing_;
  std::thread supply_;
};

}  // namespace tenure::server

#endif  // SERVER_BACKGROUND_HEAP_UPKEEP_H_

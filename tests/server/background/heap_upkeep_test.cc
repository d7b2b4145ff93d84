// The heap's two threads.

#include "server/background/heap_upkeep.h"

#include "absl/time/clock.h"

#include "tests/server/memory/heap_fixture.h"

namespace tenure::server {
namespace {

class HeapUpkeepTest : public HeapTest {
 protected:
  HeapUpkeepTest() : HeapTest({kEpoch, /*warm_reserve=*/MiB(8), /*warm_limit=*/MiB(128)}) {}
  ~HeapUpkeepTest() override { upkeep_.Stop(); }

  // Whether the reserve was filled within 20 s.
  bool WaitForReserve() {
    const absl::Time end = absl::Now() + absl::Seconds(20);
    while (heap_.books().warm < MiB(8) && absl::Now() < end) {
      // The heap does not report when a region becomes warm, so the test looks again a little
      // later.
      absl::SleepFor(absl::Milliseconds(1));
    }
    return heap_.books().warm >= MiB(8);
  }

  HeapUpkeep upkeep_{heap_};
};

TEST_F(HeapUpkeepTest, TheReserveIsFilled) {
  EXPECT_EQ(heap_.books().warm, Bytes(0));
  upkeep_.Start();
  EXPECT_TRUE(WaitForReserve());
}

TEST_F(HeapUpkeepTest, NothingIsDoneAfterStop) {
  upkeep_.Start();
  ASSERT_TRUE(WaitForReserve());
  upkeep_.Stop();
  heap_.Trim();
  EXPECT_EQ(heap_.books().reserved(), Bytes(0));
}

}  // namespace
}  // namespace tenure::server

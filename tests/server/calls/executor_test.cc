#include "server/calls/executor.h"

#include <atomic>

#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"
#include <gtest/gtest.h>

namespace tenure::server {
namespace {

TEST(ExecutorTest, TheDestructorRunsWhatIsQueued) {
  std::atomic<int> ran = 0;
  {
    Executor executor(/*threads=*/1);
    for (int i = 0; i < 100; ++i) executor.Run([&ran] { ++ran; });
  }
  EXPECT_EQ(ran, 100);
}

TEST(ExecutorTest, ATaskThatWaitsDoesNotHoldUpTheOtherThreads) {
  absl::Notification may_end;
  absl::BlockingCounter others(10);
  Executor executor(/*threads=*/2);
  executor.Run([&may_end] { may_end.WaitForNotification(); });
  for (int i = 0; i < 10; ++i) executor.Run([&others] { others.DecrementCount(); });
  others.Wait();
  may_end.Notify();
}

}  // namespace
}  // namespace tenure::server

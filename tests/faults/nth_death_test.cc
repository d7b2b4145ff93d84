// The daemon dies before, in the middle of and after every write to its journal and every message
// to its keeper's store. An answered call holds in the next daemon; one without an answer takes
// effect once.

#include <cstdio>
#include <memory>

#include <gtest/gtest.h>

#include "common/cuda/device.h"
#include "common/cuda/driver.h"
#include "common/cuda/driver_path.h"
#include "tenure/v1/admin.grpc.pb.h"
#include "tests/faults/mortal_daemon.h"
#include "tests/faults/scripted_client.h"

namespace tenure::testing {
namespace {

// More calls of one kind than the script makes. Reaching it means that the counting is broken.
constexpr int kMostCalls = 60;

class NthDeathTest : public ::testing::Test {
 protected:
  NthDeathTest() {
    driver_ = *cuda::Driver::Load(*cuda::ResolveDriver("emulated"));
    device_ = *cuda::Device::Open(*driver_, "0");
  }

  // Nothing is warm when the counting begins, so every granted region is stored during the count.
  void SetUp() override {
    v1::Admin::Stub admin(daemon_->NewChannel());
    grpc::ClientContext context;
    v1::TrimResponse response;
    ASSERT_TRUE(admin.Trim(&context, {}, &response).ok());
  }

  // The daemon dies at the n-th call, for every n, and again at the `then`-th call after that.
  void DieAtEach(MortalCall call, Moment moment, int64_t then = 0) {
    int nth = 1;
    while (nth < kMostCalls && !HasFailure()) {
      SCOPED_TRACE("at call " + std::to_string(nth));
      daemon_.Arm(call, moment, nth, then);
      ScriptedClient client(*daemon_, *device_);
      client.Run();
      if (HasFailure()) break;
      client.ExpectAllIsThere();
      client.End();
      client.ExpectNothingIsLeft();
      if (daemon_.met() == 0) break;
      ++nth;
    }
    EXPECT_GT(nth, 5) << "so few calls cannot be";
    EXPECT_LT(nth, kMostCalls);
    std::printf("the daemon died at each of %d calls\n", nth - 1);
  }

  // Declared before the device: it makes the card that the device is on.
  MortalDaemon daemon_;
  std::unique_ptr<cuda::Driver> driver_;
  std::unique_ptr<cuda::Device> device_;
};

TEST_F(NthDeathTest, BeforeEveryWriteToTheJournal) {
  DieAtEach(MortalCall::kJournalWrite, Moment::kBefore);
}

TEST_F(NthDeathTest, InTheMiddleOfEveryWriteToTheJournal) {
  DieAtEach(MortalCall::kJournalWrite, Moment::kMiddle);
}

TEST_F(NthDeathTest, AfterEveryWriteToTheJournal) {
  DieAtEach(MortalCall::kJournalWrite, Moment::kAfter);
}

TEST_F(NthDeathTest, InTheMiddleOfEveryWriteAndOfTheNextLifesFirst) {
  DieAtEach(MortalCall::kJournalWrite, Moment::kMiddle, /*then=*/1);
}

TEST_F(NthDeathTest, BeforeEachDescriptorIsStored) {
  DieAtEach(MortalCall::kStore, Moment::kBefore);
}

TEST_F(NthDeathTest, AfterEachDescriptorIsStored) { DieAtEach(MortalCall::kStore, Moment::kAfter); }

TEST_F(NthDeathTest, BeforeEachDescriptorIsTakenBackAndBeforeTheNextLifesFirst) {
  DieAtEach(MortalCall::kStoreRemove, Moment::kBefore, /*then=*/1);
}

TEST_F(NthDeathTest, AfterEachDescriptorIsTakenBack) {
  DieAtEach(MortalCall::kStoreRemove, Moment::kAfter);
}

}  // namespace
}  // namespace tenure::testing

#include "tests/driver_contract/contract.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"

#include "common/check.h"
#include "common/cuda/device.h"
#include "common/cuda/driver_path.h"
#include "common/cuda/process_list.h"
#include "tests/support/emulated_card.h"

namespace tenure::testing {
namespace {

template <typename T>
T Must(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "%s\n", value.status().ToString().c_str());
  std::abort();
}

// The driver and the device, which all tests of the program share.
struct Bench {
  Bench()
      : path(Must(cuda::ResolveClientDriver("emulated"))),
        driver(Must(cuda::Driver::Load(path))),
        processes(Must(cuda::ProcessList::Open(cuda::ProcessListLibraryFor(*driver),
                                               Must(cuda::Identify(*driver, "0")).uuid))) {
    CUcontext context = nullptr;
    TENURE_CHECK(driver->cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS);
    TENURE_CHECK(driver->cuCtxSetCurrent(context) == CUDA_SUCCESS);
  }

  const EmulatedCard card;
  const std::string path;
  const std::unique_ptr<cuda::Driver> driver;
  const std::unique_ptr<cuda::ProcessList> processes;
};

std::optional<Bench> bench;

size_t MemoryInfo(bool total_wanted) {
  size_t free = 0;
  size_t total = 0;
  TENURE_CHECK(bench->driver->cuMemGetInfo(&free, &total) == CUDA_SUCCESS);
  return total_wanted ? total : free;
}

}  // namespace

void DriverContract::Open() { bench.emplace(); }
void DriverContract::Close() { bench.reset(); }

const cuda::Driver& DriverContract::driver() { return *bench->driver; }
const std::string& DriverContract::path() { return bench->path; }
Bytes DriverContract::FreeMemory() { return Bytes(MemoryInfo(false)); }
Bytes DriverContract::TotalMemory() { return Bytes(MemoryInfo(true)); }

bool DriverContract::Lists(pid_t pid) {
  const std::vector<pid_t> pids = Must(bench->processes->ComputeProcesses());
  return std::find(pids.begin(), pids.end(), pid) != pids.end();
}

::testing::AssertionResult DriverContract::EventuallyFree(Bytes expected) {
  const Bytes slack = driver().emulated() ? Bytes(0) : KiB(64);
  if (Eventually([=] {
        const Bytes free = FreeMemory();
        return free + slack >= expected && free <= expected + slack;
      })) {
    return ::testing::AssertionSuccess();
  }
  return ::testing::AssertionFailure()
         << FreeMemory().value() << " bytes are free, not " << expected.value();
}

bool DriverContract::Eventually(const std::function<bool()>& claim) {
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (!claim()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(2));
  }
  return true;
}

}  // namespace tenure::testing

namespace {

class ContractEnvironment : public ::testing::Environment {
 public:
  void SetUp() override { tenure::testing::DriverContract::Open(); }
  void TearDown() override { tenure::testing::DriverContract::Close(); }
};

}  // namespace

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  ::testing::AddGlobalTestEnvironment(new ContractEnvironment);
  return RUN_ALL_TESTS();
}

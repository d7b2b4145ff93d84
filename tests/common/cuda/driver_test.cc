#include "common/cuda/driver.h"

#include <cstdlib>
#include <fstream>

#include "gtest/gtest.h"

#include "common/cuda/driver_path.h"
#include "gmock/gmock.h"
#include "tests/common/cuda/bench.h"

namespace tenure::cuda {
namespace {

using testing::BesideProgram;
using ::testing::HasSubstr;

absl::Status LoadStatus(absl::string_view path) { return Driver::Load(path).status(); }

TEST(DriverTest, AMissingFileIsNotFoundAndTheMessageSaysWhatToDo) {
  for (const char* path : {"/nonexistent/libcuda.so.1", "libnonexistent_cuda.so.1"}) {
    const absl::Status status = LoadStatus(path);
    EXPECT_TRUE(absl::IsNotFound(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("install the NVIDIA driver"));
    EXPECT_THAT(std::string(status.message()), HasSubstr(path));
  }
}

TEST(DriverTest, AnotherLibraryIsNoDriver) {
  const absl::Status status = LoadStatus("libm.so.6");
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("no CUDA driver"));
}

TEST(DriverTest, AFileThatIsNoLibraryIsRefused) {
  const std::string path = testing::CardFolder() + "/text";
  std::ofstream(path) << "not a library\n";
  const absl::Status status = LoadStatus(path);
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
}

TEST(DriverTest, ADriverThatLacksAnEntryPointIsTooOldAndItsNameIsSaid) {
  const absl::Status status = LoadStatus(BesideProgram("libfake_driver_without_ipc.so"));
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("cuGetErrorName"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("install a newer NVIDIA driver"));
}

TEST(DriverTest, ADriverOfAnOlderCudaIsRefusedByItsVersion) {
  const absl::Status status = LoadStatus(BesideProgram("libfake_driver_of_cuda_11.so"));
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("11.8"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("12.0"));
}

TEST(DriverTest, TheEmulatedDriverSaysWhatItIs) {
  EXPECT_TRUE(testing::TestDriver().emulated());
  EXPECT_GE(testing::TestDriver().version(), Driver::kMinimumVersion);
  EXPECT_EQ(testing::TestDriver().path(), testing::DriverPath());
}

TEST(DriverPathTest, NamesBecomePathsAndPathsStay) {
  EXPECT_EQ(ResolveDriver("cuda").value(), "libcuda.so.1");
  EXPECT_EQ(ResolveDriver("./mine.so").value(), "./mine.so");
  EXPECT_EQ(ResolveDriver("emulated").value(), BesideProgram("libtenure_emulated_cuda.so"));
  EXPECT_TRUE(absl::IsInvalidArgument(ResolveDriver("mine.so").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(ResolveDriver("").status()));
}

TEST(DriverPathTest, TheEnvironmentOverridesWhatAClientWasTold) {
  unsetenv("TENURE_DRIVER");
  EXPECT_EQ(ResolveClientDriver("cuda").value(), "libcuda.so.1");
  setenv("TENURE_DRIVER", "/other/libcuda.so", 1);
  EXPECT_EQ(ResolveClientDriver("cuda").value(), "/other/libcuda.so");
  EXPECT_EQ(ResolveClientDriver("/daemon/says.so").value(), "/other/libcuda.so");
  setenv("TENURE_DRIVER", "", 1);
  for (const char* told : {"/daemon/says.so", "./says.so", "", "cuda/../says.so"})
    EXPECT_TRUE(absl::IsInvalidArgument(ResolveClientDriver(told).status())) << told;
  EXPECT_EQ(ResolveClientDriver("cuda").value(), "libcuda.so.1");
  unsetenv("TENURE_DRIVER");
}

}  // namespace
}  // namespace tenure::cuda

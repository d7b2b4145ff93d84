#include "common/cuda/status.h"

#include <utility>

#include "gtest/gtest.h"

#include "gmock/gmock.h"
#include "tests/common/cuda/bench.h"

namespace tenure::cuda {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(StatusTest, ErrorsAreSortedByWhoCanAct) {
  const std::pair<CUresult, absl::StatusCode> expected[] = {
      {CUDA_SUCCESS, absl::StatusCode::kOk},
      {CUDA_ERROR_OUT_OF_MEMORY, absl::StatusCode::kResourceExhausted},
      {CUDA_ERROR_INVALID_VALUE, absl::StatusCode::kInvalidArgument},
      {CUDA_ERROR_INVALID_HANDLE, absl::StatusCode::kInvalidArgument},
      {CUDA_ERROR_NO_DEVICE, absl::StatusCode::kNotFound},
      {CUDA_ERROR_INVALID_DEVICE, absl::StatusCode::kNotFound},
      {CUDA_ERROR_NOT_PERMITTED, absl::StatusCode::kPermissionDenied},
      {CUDA_ERROR_NOT_INITIALIZED, absl::StatusCode::kFailedPrecondition},
      {CUDA_ERROR_INVALID_CONTEXT, absl::StatusCode::kFailedPrecondition},
      {CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, absl::StatusCode::kFailedPrecondition},
      {CUDA_ERROR_NOT_SUPPORTED, absl::StatusCode::kFailedPrecondition},
      {CUDA_ERROR_STUB_LIBRARY, absl::StatusCode::kFailedPrecondition},
      {CUDA_ERROR_DEVICE_UNAVAILABLE, absl::StatusCode::kUnavailable},
      {CUDA_ERROR_SYSTEM_NOT_READY, absl::StatusCode::kUnavailable},
      {CUDA_ERROR_ECC_UNCORRECTABLE, absl::StatusCode::kDataLoss},
      {CUDA_ERROR_ILLEGAL_ADDRESS, absl::StatusCode::kInternal},
      {CUDA_ERROR_LAUNCH_FAILED, absl::StatusCode::kInternal},
      {CUDA_ERROR_HARDWARE_STACK_ERROR, absl::StatusCode::kInternal},
      {static_cast<CUresult>(998), absl::StatusCode::kInternal},
  };
  for (const auto& [result, code] : expected) {
    EXPECT_EQ(CodeOf(result), code) << static_cast<int>(result);
  }
}

TEST(StatusTest, AMessageSaysWhatWasTriedWhichCallFailedAndTheDriversWords) {
  const absl::Status status = ToStatus(testing::TestDriver(), CUDA_ERROR_OUT_OF_MEMORY,
                                       "cuMemAlloc", "allocate 2 MiB on GPU-0");
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("could not allocate 2 MiB on GPU-0"), HasSubstr("cuMemAlloc"),
                    HasSubstr("CUDA_ERROR_OUT_OF_MEMORY"), HasSubstr("out of memory")));
}

TEST(StatusTest, AnErrorThatTheDriverCannotNameKeepsItsNumber) {
  const absl::Status status =
      ToStatus(testing::TestDriver(), static_cast<CUresult>(998), "cuMemAlloc", "allocate");
  EXPECT_THAT(std::string(status.message()), HasSubstr("998"));
}

}  // namespace
}  // namespace tenure::cuda

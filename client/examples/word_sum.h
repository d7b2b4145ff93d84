// A kernel that adds up every word of a piece of device memory.
#ifndef CLIENT_EXAMPLES_WORD_SUM_H_
#define CLIENT_EXAMPLES_WORD_SUM_H_

#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"

#include "client/client.h"
#include "client/device_buffer.h"
#include "common/bytes.h"
#include "common/cuda/device.h"
#include "common/cuda/launch.h"

namespace tenure::examples {

// Adds up 32-bit words in device memory: by a kernel on the GPU, or on the host when the driver
// runs no kernels. Both give the same sum.
//
// Borrows: the client's device.
// Thread safety: thread-compatible.
class WordSum {
 public:
  // Leases 8 bytes for the sum, of kind VMM_FD: they outlive the daemon, as the weights may.
  static absl::StatusOr<WordSum> Make(Client& client);

  // The place of the computation: "on the GPU" or "on the host".
  const char* where() const { return kernel_ ? "on the GPU" : "on the host"; }
  // The sum modulo 2^64. Up to three bytes at the end that are not a whole word are left out.
  absl::StatusOr<uint64_t> Of(cuda::DevicePointer from, Bytes size);

 private:
  WordSum(cuda::Device& device, std::optional<cuda::Kernel> kernel, DeviceBuffer sum)
      : device_(&device), kernel_(std::move(kernel)), sum_(std::move(sum)) {}

  absl::StatusOr<uint64_t> OnDevice(cuda::DevicePointer from, uint64_t words);
  absl::StatusOr<uint64_t> OnHost(cuda::DevicePointer from, uint64_t words);

  cuda::Device* device_;
  std::optional<cuda::Kernel> kernel_;
  DeviceBuffer sum_;
};

}  // namespace tenure::examples

#endif  // CLIENT_EXAMPLES_WORD_SUM_H_

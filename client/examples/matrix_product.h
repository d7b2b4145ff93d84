// The example's "inference": the product y = x W, computed in leased memory.
#ifndef CLIENT_EXAMPLES_MATRIX_PRODUCT_H_
#define CLIENT_EXAMPLES_MATRIX_PRODUCT_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "client/tensor.h"
#include "common/cuda/driver.h"
#include "common/cuda/launch.h"

namespace tenure::examples {

// Multiplies a row by a matrix: by a kernel on the GPU, or on the host when the driver runs no
// kernels or no run-time compiler is installed. The memory is leased and mapped in the same way in
// both cases.
//
// Borrows: the client's device.
// Thread safety: thread-compatible.
class MatrixProduct {
 public:
  static absl::StatusOr<MatrixProduct> Make(const Client& client);

  // The place of the computation: "on the GPU", or "on the host" with the reason.
  const std::string& where() const { return where_; }
  // REQUIRES: x is f32[1,k], w is f32[k,n], y is f32[1,n].
  absl::Status Run(const Tensor& x, const Tensor& w, Tensor& y);

 private:
  MatrixProduct(cuda::Device& device, std::optional<cuda::Kernel> kernel, std::string where)
      : device_(&device), kernel_(std::move(kernel)), where_(std::move(where)) {}

  absl::Status RunOnDevice(const Tensor& x, const Tensor& w, Tensor& y);
  static absl::Status RunOnHost(const Tensor& x, const Tensor& w, Tensor& y);

  cuda::Device* device_;
  std::optional<cuda::Kernel> kernel_;
  std::string where_;
};

// The largest difference between y and x W, divided by the largest value of x W; in double
// precision.
double RelativeError(const std::vector<float>& x, const std::vector<float>& w,
                     const std::vector<float>& y);

}  // namespace tenure::examples

#endif  // CLIENT_EXAMPLES_MATRIX_PRODUCT_H_

// y = x W on leased memory: what the example's "inference" is.
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

// Multiplies a row by a matrix, on the GPU by a kernel of its own, or on the host where the driver
// runs no kernels or no run-time compiler is installed: the memory is leased and mapped in the same
// way either way.
//
// Borrows: the client's device.
// Thread safety: thread-compatible.
class MatrixProduct {
 public:
  static absl::StatusOr<MatrixProduct> Make(const Client& client);

  // "on the GPU", or "on the host" and why.
  const std::string& where() const { return where_; }
  // x is f32[1,k], w is f32[k,n], y is f32[1,n].
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

// The largest difference between y and x W in double precision, over the largest value of x W.
double RelativeError(const std::vector<float>& x, const std::vector<float>& w,
                     const std::vector<float>& y);

}  // namespace tenure::examples

#endif  // CLIENT_EXAMPLES_MATRIX_PRODUCT_H_

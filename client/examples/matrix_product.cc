#include "client/examples/matrix_product.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"

namespace tenure::examples {
namespace {

constexpr char kSource[] = R"(
extern "C" __global__ void product(const float* x, const float* w, float* y, int k, int n) {
  const int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= n) return;
  float sum = 0;
  for (int i = 0; i < k; ++i) sum += x[i] * w[i * n + column];
  y[column] = sum;
}
)";
constexpr unsigned kThreads = 128;

// Copies a tensor to the host. An error is stored in `status`, so that the caller checks once.
std::vector<float> HostValues(const Tensor& tensor, absl::Status& status) {
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  status.Update(tensor.CopyToHost<float>(absl::MakeSpan(values)));
  return values;
}

}  // namespace

absl::StatusOr<MatrixProduct> MatrixProduct::Make(const Client& client) {
  cuda::Device& device = client.device();
  absl::StatusOr<cuda::Kernel> kernel =
      cuda::Kernel::Compile(device.driver(), device, kSource, "product");
  if (kernel.ok()) return MatrixProduct(device, *std::move(kernel), "on the GPU");
  // FAILED_PRECONDITION: the driver runs no kernels. NOT_FOUND: there is no run-time compiler. In
  // both cases the host multiplies, so that the example runs without a GPU.
  if (!absl::IsFailedPrecondition(kernel.status()) && !absl::IsNotFound(kernel.status())) {
    return kernel.status();
  }
  return MatrixProduct(device, std::nullopt,
                       absl::StrCat("on the host (", kernel.status().message(), ")"));
}

absl::Status MatrixProduct::Run(const Tensor& x, const Tensor& w, Tensor& y) {
  return kernel_ ? RunOnDevice(x, w, y) : RunOnHost(x, w, y);
}

absl::Status MatrixProduct::RunOnDevice(const Tensor& x, const Tensor& w, Tensor& y) {
  std::array<cuda::DevicePointer, 3> pointers = {x.pointer(), w.pointer(), y.pointer()};
  int k = static_cast<int>(w.shape()[0]);
  int n = static_cast<int>(w.shape()[1]);
  const std::array<void*, 5> arguments = {&pointers[0], &pointers[1], &pointers[2], &k, &n};
  // One thread for each column, rounded up to whole blocks; the kernel skips the threads beyond n.
  const unsigned blocks = (static_cast<unsigned>(n) + kThreads - 1) / kThreads;
  TENURE_RETURN_IF_ERROR(kernel_->Launch({.x = blocks}, {.x = kThreads}, arguments));
  // The caller may free x, w and y after this, so the kernel must have ended.
  return device_->Synchronize();
}

absl::Status MatrixProduct::RunOnHost(const Tensor& x, const Tensor& w, Tensor& y) {
  absl::Status status;
  const std::vector<float> row = HostValues(x, status);
  const std::vector<float> matrix = HostValues(w, status);
  if (!status.ok()) return status;
  const size_t n = matrix.size() / row.size();
  std::vector<float> product(n);
  for (size_t i = 0; i < row.size(); ++i) {
    for (size_t j = 0; j < n; ++j) product[j] += row[i] * matrix[i * n + j];
  }
  return y.CopyFromHost<float>(product);
}

double RelativeError(const std::vector<float>& x, const std::vector<float>& w,
                     const std::vector<float>& y) {
  double largest_error = 0;
  double largest_value = 0;
  for (size_t j = 0; j < y.size(); ++j) {
    double exact = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      exact += static_cast<double>(x[i]) * static_cast<double>(w[i * y.size() + j]);
    }
    largest_error = std::max(largest_error, std::abs(exact - static_cast<double>(y[j])));
    largest_value = std::max(largest_value, std::abs(exact));
  }
  return largest_value == 0 ? largest_error : largest_error / largest_value;
}

}  // namespace tenure::examples

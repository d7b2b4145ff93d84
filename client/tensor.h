#ifndef CLIENT_TENSOR_H_
#define CLIENT_TENSOR_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "client/client.h"
#include "client/device_buffer.h"
#include "client/dtype.h"
#include "client/export.h"
#include "common/bytes.h"

namespace tenure {

// How the elements of a tensor lie: contiguous, the last dimension fastest.
//
// Invariants: every dimension is at least 1; the size in bytes fits in 63 bits.
// Thread safety: immutable value.
class TENURE_EXPORT TensorLayout {
 public:
  static constexpr size_t kMaxDimensions = 64;

  // An empty shape is a scalar: one element.
  // Errors: INVALID_ARGUMENT: a dimension of 0 or less, too many of them, or a size that does not
  // fit.
  static absl::StatusOr<TensorLayout> Make(absl::Span<const int64_t> shape, DType dtype);

  absl::Span<const int64_t> shape() const { return shape_; }
  // In elements.
  absl::Span<const int64_t> strides() const { return strides_; }
  DType dtype() const { return dtype_; }
  int64_t elements() const { return elements_; }
  Bytes size() const { return Bytes(ItemSize(dtype_).value() * static_cast<uint64_t>(elements_)); }
  // "f32[2,3]".
  std::string ToString() const;

 private:
  TensorLayout() = default;

  std::vector<int64_t> shape_;
  std::vector<int64_t> strides_;
  DType dtype_ = DType::kF32;
  int64_t elements_ = 1;
};

// Numbers in leased GPU memory: a layout over a DeviceBuffer. Move-only, as the buffer is.
//
// Thread safety: thread-compatible.
// Errors: INVALID_ARGUMENT (a shape that cannot be, values of another type or number), else those
// of Client and DeviceBuffer.
class TENURE_EXPORT Tensor {
 public:
  // Contents are unspecified until they are copied in.
  static absl::StatusOr<Tensor> Create(Client& client, absl::Span<const int64_t> shape,
                                       DType dtype);
  template <typename T>
  static absl::StatusOr<Tensor> FromHost(Client& client, absl::Span<const int64_t> shape,
                                         absl::Span<const T> values);

  // Copy every element; `values` has exactly elements() of them.
  template <typename T>
  absl::Status CopyFromHost(absl::Span<const T> values);
  template <typename T>
  absl::Status CopyToHost(absl::Span<T> values) const;
  // The same for a type that C++ does not have; `size` is size().
  absl::Status CopyFromHost(DType dtype, const void* from, Bytes size);
  absl::Status CopyToHost(DType dtype, void* to, Bytes size) const;

  const TensorLayout& layout() const { return layout_; }
  absl::Span<const int64_t> shape() const { return layout_.shape(); }
  DType dtype() const { return layout_.dtype(); }
  int64_t elements() const { return layout_.elements(); }
  // Of the elements; the buffer may be larger.
  Bytes size() const { return layout_.size(); }
  cuda::DevicePointer pointer() const { return buffer_.pointer(); }
  const DeviceBuffer& buffer() const { return buffer_; }

 private:
  Tensor(TensorLayout layout, DeviceBuffer buffer)
      : layout_(std::move(layout)), buffer_(std::move(buffer)) {}

  absl::Status CheckHost(DType dtype, Bytes size) const;

  TensorLayout layout_;
  DeviceBuffer buffer_;
};

template <typename T>
absl::Status Tensor::CopyFromHost(absl::Span<const T> values) {
  return CopyFromHost(kDTypeOf<T>, values.data(), Bytes(values.size() * sizeof(T)));
}

template <typename T>
absl::Status Tensor::CopyToHost(absl::Span<T> values) const {
  return CopyToHost(kDTypeOf<T>, values.data(), Bytes(values.size() * sizeof(T)));
}

template <typename T>
absl::StatusOr<Tensor> Tensor::FromHost(Client& client, absl::Span<const int64_t> shape,
                                        absl::Span<const T> values) {
  absl::StatusOr<Tensor> tensor = Create(client, shape, kDTypeOf<T>);
  if (!tensor.ok()) return tensor;
  const absl::Status copied = tensor->CopyFromHost(values);
  if (!copied.ok()) return copied;
  return tensor;
}

}  // namespace tenure

#endif  // CLIENT_TENSOR_H_

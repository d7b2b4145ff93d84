// Tensors in leased GPU memory.
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
#include "common/bytes.h"
#include "common/export.h"

namespace tenure {

// The shape, the type and the strides of a tensor. Elements are contiguous; the last dimension
// varies fastest (row-major).
//
// Invariants: Every dimension is at least 1. The size in bytes fits in 63 bits.
// Thread safety: immutable value.
class TENURE_EXPORT TensorLayout {
 public:
  static constexpr size_t kMaxDimensions = 64;

  // An empty shape is a scalar: one element.
  // Errors: INVALID_ARGUMENT: a dimension is less than 1, there are more than kMaxDimensions, or
  // the size does not fit in 63 bits.
  static absl::StatusOr<TensorLayout> Make(absl::Span<const int64_t> shape, DType dtype);

  absl::Span<const int64_t> shape() const { return shape_; }
  // In elements, not bytes; as many as shape() has.
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

// A tensor in leased GPU memory: a DeviceBuffer with a layout. Move-only, as the buffer is.
//
// Owns: the buffer.
// Thread safety: thread-compatible.
// Errors: INVALID_ARGUMENT: the shape is not possible, or the values have another type or number.
// Else those of Client and DeviceBuffer.
class TENURE_EXPORT Tensor {
 public:
  // Leases the memory, with the default AllocateOptions. The contents are unspecified. Not
  // idempotent: each call leases another block.
  static absl::StatusOr<Tensor> Create(Client& client, absl::Span<const int64_t> shape,
                                       DType dtype);
  // Leases the memory and copies `values` there, of which there are as many as elements.
  template <typename T>
  static absl::StatusOr<Tensor> FromHost(Client& client, absl::Span<const int64_t> shape,
                                         absl::Span<const T> values);

  // Copies all elements. `values` has exactly elements() of them, of the type dtype().
  template <typename T>
  absl::Status CopyFromHost(absl::Span<const T> values);
  template <typename T>
  absl::Status CopyToHost(absl::Span<T> values) const;
  // The same for a type that C++ does not have. `size` must be size().
  absl::Status CopyFromHost(DType dtype, const void* from, Bytes size);
  absl::Status CopyToHost(DType dtype, void* to, Bytes size) const;

  const TensorLayout& layout() const { return layout_; }
  absl::Span<const int64_t> shape() const { return layout_.shape(); }
  DType dtype() const { return layout_.dtype(); }
  int64_t elements() const { return layout_.elements(); }
  // The bytes of the elements. The buffer may be larger.
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

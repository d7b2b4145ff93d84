#include "client/tensor.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/status_macros.h"

namespace tenure {
namespace {

// "f32[2,3]".
std::string Spell(absl::Span<const int64_t> shape, DType dtype) {
  return absl::StrCat(Name(dtype), "[", absl::StrJoin(shape, ","), "]");
}

}  // namespace

absl::StatusOr<TensorLayout> TensorLayout::Make(absl::Span<const int64_t> shape, DType dtype) {
  if (shape.size() > kMaxDimensions) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a tensor of ", shape.size(), " dimensions: at most ", kMaxDimensions, " are possible"));
  }
  TensorLayout layout;
  layout.shape_.assign(shape.begin(), shape.end());
  layout.strides_.resize(shape.size());
  layout.dtype_ = dtype;
  // Signed, so that an overflow of it means that the size exceeds 63 bits.
  int64_t size = static_cast<int64_t>(ItemSize(dtype).value());
  for (size_t i = shape.size(); i-- > 0;) {
    if (shape[i] < 1) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", Spell(shape, dtype), ": dimension ",
                                                     i, " is ", shape[i], "; make it 1 or more"));
    }
    // From the last dimension to the first: a stride is the number of elements in those behind it.
    layout.strides_[i] = layout.elements_;
    if (__builtin_mul_overflow(size, shape[i], &size)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor ", Spell(shape, dtype), ": its size in bytes does not fit in 63 bits"));
    }
    // Cannot overflow: the size in bytes, which did not, is at least as large.
    layout.elements_ *= shape[i];
  }
  return layout;
}

std::string TensorLayout::ToString() const { return Spell(shape_, dtype_); }

absl::StatusOr<Tensor> Tensor::Create(Client& client, absl::Span<const int64_t> shape,
                                      DType dtype) {
  TENURE_ASSIGN_OR_RETURN(TensorLayout layout, TensorLayout::Make(shape, dtype));
  TENURE_ASSIGN_OR_RETURN(DeviceBuffer buffer, client.Allocate(layout.size()));
  return Tensor(std::move(layout), std::move(buffer));
}

absl::Status Tensor::CheckHost(DType dtype, Bytes size) const {
  if (dtype != layout_.dtype()) {
    return absl::InvalidArgumentError(
        absl::StrCat("copy ", Name(dtype), " values: the tensor is ", layout_.ToString()));
  }
  if (size != layout_.size()) {
    return absl::InvalidArgumentError(absl::StrCat("copy ", size.value(), " bytes: the tensor ",
                                                   layout_.ToString(), " has ",
                                                   layout_.size().value()));
  }
  return absl::OkStatus();
}

absl::Status Tensor::CopyFromHost(DType dtype, const void* from, Bytes size) {
  TENURE_RETURN_IF_ERROR(CheckHost(dtype, size));
  return buffer_.CopyFromHost(from, size);
}

absl::Status Tensor::CopyToHost(DType dtype, void* to, Bytes size) const {
  TENURE_RETURN_IF_ERROR(CheckHost(dtype, size));
  return buffer_.CopyToHost(to, size);
}

}  // namespace tenure

// The types of a tensor's elements.
#ifndef CLIENT_DTYPE_H_
#define CLIENT_DTYPE_H_

#include <cstdint>

#include "absl/strings/string_view.h"

#include "common/bytes.h"
#include "common/export.h"

namespace tenure {

enum class DType { kBool, kU8, kI8, kI16, kI32, kI64, kF16, kBF16, kF32, kF64 };

// The size of one element.
TENURE_EXPORT Bytes ItemSize(DType dtype);
// The name in lower case, such as "f32", "bf16" or "bool".
TENURE_EXPORT absl::string_view Name(DType dtype);

// The DType whose elements are of type T. kF16 and kBF16 have no C++ type; Tensor copies them as
// bytes.
template <typename T>
inline constexpr DType kDTypeOf = T::tenure_has_no_dtype_for_this_type;
template <>
inline constexpr DType kDTypeOf<bool> = DType::kBool;
template <>
inline constexpr DType kDTypeOf<uint8_t> = DType::kU8;
template <>
inline constexpr DType kDTypeOf<int8_t> = DType::kI8;
template <>
inline constexpr DType kDTypeOf<int16_t> = DType::kI16;
template <>
inline constexpr DType kDTypeOf<int32_t> = DType::kI32;
template <>
inline constexpr DType kDTypeOf<int64_t> = DType::kI64;
template <>
inline constexpr DType kDTypeOf<float> = DType::kF32;
template <>
inline constexpr DType kDTypeOf<double> = DType::kF64;

}  // namespace tenure

#endif  // CLIENT_DTYPE_H_

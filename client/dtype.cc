#include "client/dtype.h"

#include <array>

#include "common/check.h"

namespace tenure {
namespace {

struct Row {
  DType dtype;
  absl::string_view name;
  uint64_t item_size;
};

constexpr std::array<Row, 10> kRows = {{{DType::kBool, "bool", 1},
                                        {DType::kU8, "u8", 1},
                                        {DType::kI8, "i8", 1},
                                        {DType::kI16, "i16", 2},
                                        {DType::kI32, "i32", 4},
                                        {DType::kI64, "i64", 8},
                                        {DType::kF16, "f16", 2},
                                        {DType::kBF16, "bf16", 2},
                                        {DType::kF32, "f32", 4},
                                        {DType::kF64, "f64", 8}}};

const Row& RowOf(DType dtype) {
  const size_t index = static_cast<size_t>(dtype);
  TENURE_CHECK(index < kRows.size() && kRows[index].dtype == dtype);
  return kRows[index];
}

}  // namespace

Bytes ItemSize(DType dtype) { return Bytes(RowOf(dtype).item_size); }

absl::string_view Name(DType dtype) { return RowOf(dtype).name; }

}  // namespace tenure

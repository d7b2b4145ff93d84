// The entry points of the emulated driver, numbered.
#ifndef COMMON_CUDA_EMULATED_ENTRY_H_
#define COMMON_CUDA_EMULATED_ENTRY_H_

#include <array>
#include <cstddef>
#include <optional>

#include "absl/strings/string_view.h"
#include <cuda.h>

#include "common/cuda/nvml_api.h"
#include "common/cuda/symbols.h"

namespace tenure::cuda::emulated {

// Enumerators have the exported names, since cuda.h's macros are expanded in them as well:
// Entry::cuMemAlloc is Entry::cuMemAlloc_v2.
enum class Entry : size_t {
#define TENURE_EMULATED_ENTRY(symbol) symbol,
  TENURE_CUDA_SYMBOLS(TENURE_EMULATED_ENTRY) TENURE_NVML_SYMBOLS(TENURE_EMULATED_ENTRY)
#undef TENURE_EMULATED_ENTRY
};

#define TENURE_EMULATED_TEXT(symbol) TENURE_EMULATED_TEXT_OF_EXPANDED(symbol)
#define TENURE_EMULATED_TEXT_OF_EXPANDED(symbol) #symbol,
inline constexpr auto kEntryNames = std::to_array<const char*>(
    {TENURE_CUDA_SYMBOLS(TENURE_EMULATED_TEXT) TENURE_NVML_SYMBOLS(TENURE_EMULATED_TEXT)});
#undef TENURE_EMULATED_TEXT
#undef TENURE_EMULATED_TEXT_OF_EXPANDED

inline std::optional<Entry> FindEntry(absl::string_view name) {
  for (size_t i = 0; i < kEntryNames.size(); ++i) {
    if (name == kEntryNames[i]) return static_cast<Entry>(i);
  }
  return std::nullopt;
}

}  // namespace tenure::cuda::emulated

#endif  // COMMON_CUDA_EMULATED_ENTRY_H_

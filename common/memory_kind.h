// The memory kinds: the two ways in which a region reaches the process that maps it.
#ifndef COMMON_MEMORY_KIND_H_
#define COMMON_MEMORY_KIND_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace tenure {

enum class MemoryKind : uint8_t {
  // A 64-byte handle of cuIpcGetMemHandle. Any process that may open the GPU's device files can
  // guess and map it, so it protects against accidents and not against attacks. It ends with the
  // daemon.
  kCudaIpc,
  // A file descriptor of memory of cuMemCreate. Only a process that was given it can map it.
  kVmmFd,
};
inline constexpr std::array<MemoryKind, 2> kMemoryKinds = {MemoryKind::kCudaIpc,
                                                           MemoryKind::kVmmFd};

// For tables by kind.
constexpr size_t IndexOf(MemoryKind kind) { return static_cast<size_t>(kind); }

// As flags and reports spell it: "CUDA_IPC", "VMM_FD".
constexpr absl::string_view NameOf(MemoryKind kind) {
  return kind == MemoryKind::kCudaIpc ? "CUDA_IPC" : "VMM_FD";
}

}  // namespace tenure

#endif  // COMMON_MEMORY_KIND_H_

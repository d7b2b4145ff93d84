#include "client/examples/word_sum.h"

#include <algorithm>
#include <array>
#include <vector>

#include "common/status_macros.h"

namespace tenure::examples {
namespace {

// The PTX that nvcc generates from
//   extern "C" __global__ void word_sum(const unsigned* words, uint64_t count, uint64_t* sum) {
//     uint64_t mine = 0;
//     for (uint64_t i = uint64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count;
//          i += uint64_t{gridDim.x} * blockDim.x) mine += words[i];
//     atomicAdd(sum, mine);
//   }
// The driver compiles PTX itself, so no CUDA toolkit needs to be installed.
constexpr char kPtx[] = R"(
.version 6.4
.target sm_60
.address_size 64
.visible .entry word_sum(.param .u64 words, .param .u64 count, .param .u64 sum)
{
  .reg .pred %more;
  .reg .b32 %block, %threads, %thread, %blocks;
  .reg .b64 %base, %count, %sum, %at, %step, %address, %word, %mine;
  ld.param.u64 %base, [words];
  ld.param.u64 %count, [count];
  ld.param.u64 %sum, [sum];
  mov.u32 %block, %ctaid.x;
  mov.u32 %threads, %ntid.x;
  mov.u32 %thread, %tid.x;
  mov.u32 %blocks, %nctaid.x;
  mul.wide.u32 %step, %blocks, %threads;
  mul.wide.u32 %at, %block, %threads;
  cvt.u64.u32 %word, %thread;
  add.u64 %at, %at, %word;
  cvta.to.global.u64 %base, %base;
  cvta.to.global.u64 %sum, %sum;
  mov.u64 %mine, 0;
next:
  setp.ge.u64 %more, %at, %count;
  @%more bra done;
  shl.b64 %address, %at, 2;
  add.u64 %address, %base, %address;
  ld.global.u32 %word, [%address];
  add.u64 %mine, %mine, %word;
  add.u64 %at, %at, %step;
  bra next;
done:
  red.global.add.u64 [%sum], %mine;
  ret;
}
)";
constexpr unsigned kBlocks = 1024;
constexpr unsigned kThreads = 256;
// The number of words that are read back at a time when there is no kernel.
constexpr uint64_t kWordsAtOnce = uint64_t{1} << 20;

}  // namespace

absl::StatusOr<WordSum> WordSum::Make(Client& client) {
  cuda::Device& device = client.device();
  TENURE_ASSIGN_OR_RETURN(DeviceBuffer sum, client.Allocate(Bytes(sizeof(uint64_t)),
                                                            {.memory_kind = MemoryKind::kVmmFd}));
  absl::StatusOr<cuda::Kernel> kernel =
      cuda::Kernel::Load(device.driver(), device, kPtx, "word_sum");
  if (kernel.ok()) return WordSum(device, *std::move(kernel), std::move(sum));
  // FAILED_PRECONDITION: the driver runs no kernels, as the emulated one.
  if (!absl::IsFailedPrecondition(kernel.status())) return kernel.status();
  return WordSum(device, std::nullopt, std::move(sum));
}

absl::StatusOr<uint64_t> WordSum::Of(cuda::DevicePointer from, Bytes size) {
  const uint64_t words = size.value() / sizeof(uint32_t);
  return kernel_ ? OnDevice(from, words) : OnHost(from, words);
}

absl::StatusOr<uint64_t> WordSum::OnDevice(cuda::DevicePointer from, uint64_t words) {
  uint64_t value = 0;
  // The kernel adds to the sum, so the sum is set to 0 before each run.
  absl::Status status = sum_.CopyFromHost(&value, Bytes(sizeof value));
  cuda::DevicePointer sum = sum_.pointer();
  const std::array<void*, 3> arguments = {&from, &words, &sum};
  if (status.ok()) status = kernel_->Launch({.x = kBlocks}, {.x = kThreads}, arguments);
  // The copy waits for the kernel: both are on the default stream, in this order.
  if (status.ok()) status = sum_.CopyToHost(&value, Bytes(sizeof value));
  if (!status.ok()) return status;
  return value;
}

absl::StatusOr<uint64_t> WordSum::OnHost(cuda::DevicePointer from, uint64_t words) {
  std::vector<uint32_t> piece(std::min(words, kWordsAtOnce));
  uint64_t sum = 0;
  for (uint64_t done = 0; done < words; done += piece.size()) {
    piece.resize(std::min(words - done, kWordsAtOnce));
    TENURE_RETURN_IF_ERROR(device_->CopyToHost(piece.data(), from + done * sizeof(uint32_t),
                                               Bytes(piece.size() * sizeof(uint32_t))));
    for (const uint32_t word : piece) sum += word;
  }
  return sum;
}

}  // namespace tenure::examples

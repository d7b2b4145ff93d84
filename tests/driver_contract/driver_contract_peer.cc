// Another process for the driver's contract. It reads requests of a test, one in each line, and
// answers each in one line. CUDA does not survive fork, so the other processes of a test are
// programs of their own.
//
//   usage: driver_contract_peer DRIVER COMMANDS_FD LIFELINE_FD
//
// A request is a verb and its operands. An answer is "ok", perhaps with a value, or "error N" with
// the driver's CUresult. Allocations and imports are named by numbers, in the order in which they
// were made.
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "common/check.h"
#include "common/cuda/driver.h"
#include "common/unique_fd.h"
#include "tests/driver_contract/descriptor_passing.h"
#include "tests/driver_contract/vmm_calls.h"

namespace {

using tenure::UniqueFd;
using tenure::cuda::Driver;
using tenure::testing::VmmMapping;
using Operands = std::vector<std::string>;

uint64_t Number(const std::string& text) {
  uint64_t value = 0;
  TENURE_CHECK(absl::SimpleAtoi(text, &value));
  return value;
}

// Ends with the process that holds the other end, so that no child outlives its test.
[[noreturn]] void WaitForTheEnd(int lifeline) {
  char byte = 0;
  while (read(lifeline, &byte, 1) > 0) {
  }
  _exit(0);
}

class Peer {
 public:
  Peer(std::string path, int lifeline) : path_(std::move(path)), lifeline_(lifeline) {}

  // The descriptor that came with a request.
  void Take(UniqueFd descriptor) { descriptor_ = std::move(descriptor); }

  // The descriptor to send with the answer to the last request.
  UniqueFd Give() { return std::move(given_); }

  std::string Do(const std::string& request) {
    const Operands words = absl::StrSplit(request, ' ');
    const auto verb = verbs_.find(words[0]);
    TENURE_CHECK(verb != verbs_.end());
    return verb->second(words);
  }

 private:
  static std::string Answer(CUresult result, const std::string& value = "") {
    if (result != CUDA_SUCCESS) return absl::StrCat("error ", static_cast<int>(result));
    return value.empty() ? "ok" : absl::StrCat("ok ", value);
  }

  std::string Add(CUresult result, CUdeviceptr pointer) {
    if (result == CUDA_SUCCESS) pointers_.push_back(pointer);
    return Answer(result, absl::StrCat(pointers_.size() - 1));
  }

  CUdeviceptr At(const std::string& name) const { return pointers_.at(Number(name)); }

  std::string Context(const Operands&) {
    if (driver_ == nullptr) {
      absl::StatusOr<std::unique_ptr<Driver>> driver = Driver::Load(path_);
      if (!driver.ok()) return absl::StrCat("failed ", driver.status().message());
      driver_ = *std::move(driver);
    }
    CUcontext context = nullptr;
    const CUresult result = driver_->cuDevicePrimaryCtxRetain(&context, 0);
    return Answer(result != CUDA_SUCCESS ? result : driver_->cuCtxSetCurrent(context));
  }

  std::string Release(const Operands&) { return Answer(driver_->cuDevicePrimaryCtxRelease(0)); }

  std::string Allocate(const Operands& words) {
    CUdeviceptr pointer = 0;
    const CUresult result = driver_->cuMemAlloc(&pointer, Number(words.at(1)));
    return Add(result, pointer);
  }

  // Many at once: allocate-many COUNT SIZE. Answers the number of the last one.
  std::string AllocateMany(const Operands& words) {
    std::string last;
    for (uint64_t i = 0; i < Number(words.at(1)); ++i) {
      last = Allocate({"", words.at(2)});
      if (!absl::StartsWith(last, "ok")) break;
    }
    return last;
  }

  std::string Free(const Operands& words) { return Answer(driver_->cuMemFree(At(words.at(1)))); }

  std::string FreeWithoutContext(const Operands& words) {
    CUcontext context = nullptr;
    TENURE_CHECK(driver_->cuCtxPopCurrent(&context) == CUDA_SUCCESS);
    const CUresult result = driver_->cuMemFree(At(words.at(1)));
    TENURE_CHECK(driver_->cuCtxPushCurrent(context) == CUDA_SUCCESS);
    return Answer(result);
  }

  // The answer to a call in a context that was released for the last time.
  std::string UseReleasedContext(const Operands&) {
    TENURE_CHECK(driver_->cuDevicePrimaryCtxRelease(0) == CUDA_SUCCESS);
    size_t free = 0;
    size_t total = 0;
    return Answer(driver_->cuMemGetInfo(&free, &total));
  }

  // export NAME [OFFSET]
  std::string Export(const Operands& words) {
    CUipcMemHandle handle = {};
    const CUdeviceptr pointer = At(words.at(1)) + (words.size() > 2 ? Number(words[2]) : 0);
    const CUresult result = driver_->cuIpcGetMemHandle(&handle, pointer);
    return Answer(result, absl::BytesToHexString(
                              absl::string_view(handle.reserved, sizeof(handle.reserved))));
  }

  std::string Open(const Operands& words) {
    CUipcMemHandle handle = {};
    const std::string bytes = absl::HexStringToBytes(words.at(1));
    TENURE_CHECK(bytes.size() == sizeof(handle.reserved));
    bytes.copy(handle.reserved, sizeof(handle.reserved));
    CUdeviceptr pointer = 0;
    const CUresult result =
        driver_->cuIpcOpenMemHandle(&pointer, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
    return Add(result, pointer);
  }

  std::string Close(const Operands& words) {
    return Answer(driver_->cuIpcCloseMemHandle(At(words.at(1))));
  }

  std::string Map(CUresult result, VmmMapping mapping) {
    if (result == CUDA_SUCCESS) result = tenure::testing::MapVmm(*driver_, &mapping);
    if (result == CUDA_SUCCESS) mapped_[pointers_.size()] = mapping;
    return Add(result, mapping.base);
  }

  // Memory that descriptors name, mapped for reading and writing.
  std::string Create(const Operands& words) {
    VmmMapping mapping = {0, 0, Number(words.at(1))};
    return Map(tenure::testing::CreateVmm(*driver_, mapping.size, &mapping.handle), mapping);
  }

  // import SIZE: maps the memory of the descriptor that came with the request.
  std::string Import(const Operands& words) {
    VmmMapping mapping = {0, 0, Number(words.at(1))};
    return Map(tenure::testing::ImportVmm(*driver_, descriptor_.get(), &mapping.handle), mapping);
  }

  // Imports without a mapping. Answers the handle.
  std::string ImportHandle(const Operands&) {
    CUmemGenericAllocationHandle handle = 0;
    const CUresult result = tenure::testing::ImportVmm(*driver_, descriptor_.get(), &handle);
    return Answer(result, absl::StrCat(handle));
  }

  std::string ReleaseHandle(const Operands& words) {
    return Answer(driver_->cuMemRelease(Number(words.at(1))));
  }

  std::string ExportDescriptor(const Operands& words) {
    return Answer(
        tenure::testing::ExportVmm(*driver_, mapped_.at(Number(words.at(1))).handle, &given_));
  }

  // access NAME FLAGS
  std::string Access(const Operands& words) {
    const VmmMapping& mapping = mapped_.at(Number(words.at(1)));
    return Answer(tenure::testing::SetVmmAccess(
        *driver_, mapping.base, mapping.size, static_cast<CUmemAccess_flags>(Number(words.at(2)))));
  }

  std::string ReleaseMapped(const Operands& words) {
    const VmmMapping mapping = mapped_.at(Number(words.at(1)));
    const CUresult result = tenure::testing::UnmapVmm(*driver_, mapping);
    return Answer(result != CUDA_SUCCESS ? result : driver_->cuMemRelease(mapping.handle));
  }

  // Keeps the descriptor that came with the request, and does nothing with it.
  std::string Hold(const Operands&) { return descriptor_ ? "ok" : "failed"; }

  std::string GiveBack(const Operands&) {
    given_.Reset(dup(descriptor_.get()));
    return given_ ? "ok" : "failed";
  }

  std::string CloseDescriptor(const Operands&) {
    descriptor_.Reset();
    return "ok";
  }

  // open-descriptor PATH: opens a file with the rights of its user, and answers whether it could.
  // The descriptor then counts as one that came with a request.
  std::string OpenDescriptor(const Operands& words) {
    descriptor_.Reset(open(words.at(1).c_str(), O_RDWR | O_CLOEXEC));
    if (!descriptor_) descriptor_.Reset(open(words.at(1).c_str(), O_RDONLY | O_CLOEXEC));
    return descriptor_ ? "ok yes" : "ok no";
  }

  // distance FROM TO: in bytes, with a sign.
  std::string Distance(const Operands& words) {
    return Answer(CUDA_SUCCESS,
                  absl::StrCat(static_cast<int64_t>(At(words.at(2)) - At(words.at(1)))));
  }

  // modulo NAME DIVISOR: of the address.
  std::string Modulo(const Operands& words) {
    return Answer(CUDA_SUCCESS, absl::StrCat(At(words.at(1)) % Number(words.at(2))));
  }

  // fill NAME OFFSET SIZE BYTE
  std::string Fill(const Operands& words) {
    CUresult result =
        driver_->cuMemsetD8(At(words.at(1)) + Number(words.at(2)),
                            static_cast<unsigned char>(Number(words.at(4))), Number(words.at(3)));
    if (result == CUDA_SUCCESS) result = driver_->cuCtxSynchronize();
    return Answer(result);
  }

  // holds NAME OFFSET SIZE BYTE: whether each byte there is BYTE.
  std::string Holds(const Operands& words) {
    std::string bytes(Number(words.at(3)), '\0');
    const CUresult result =
        driver_->cuMemcpyDtoH(bytes.data(), At(words.at(1)) + Number(words.at(2)), bytes.size());
    const char expected = static_cast<char>(Number(words.at(4)));
    return Answer(result, bytes.find_first_not_of(expected) == std::string::npos ? "yes" : "no");
  }

  // A child without exec, that keeps what it inherited until the test ends it. Answers its pid.
  std::string ForkChild(const Operands&) {
    const pid_t child = fork();
    TENURE_CHECK(child >= 0);
    if (child == 0) WaitForTheEnd(lifeline_);
    return Answer(CUDA_SUCCESS, absl::StrCat(child));
  }

  // The answer that a forked child gets when it calls the driver.
  std::string CallInChild(const Operands&) {
    int answers[2] = {};
    TENURE_CHECK(pipe(answers) == 0);
    const pid_t child = fork();
    TENURE_CHECK(child >= 0);
    if (child == 0) {
      size_t free = 0;
      size_t total = 0;
      const int result = static_cast<int>(driver_->cuMemGetInfo(&free, &total));
      TENURE_CHECK(write(answers[1], &result, sizeof(result)) == sizeof(result));
      _exit(0);
    }
    close(answers[1]);
    int result = CUDA_ERROR_UNKNOWN;
    TENURE_CHECK(read(answers[0], &result, sizeof(result)) == sizeof(result));
    close(answers[0]);
    return Answer(static_cast<CUresult>(result));
  }

  // Becomes another user. REQUIRES: there is no context yet, because the driver checks the user
  // when it makes one.
  std::string BecomeUser(const Operands& words) {
    const auto user = static_cast<uid_t>(Number(words.at(1)));
    return setgid(user) == 0 && setuid(user) == 0 ? "ok" : "failed";
  }

  // Allocates, exports and frees at random until it is killed. Never answers again.
  std::string Churn(const Operands& words) {
    std::minstd_rand random(static_cast<std::minstd_rand::result_type>(Number(words.at(1))));
    std::vector<CUdeviceptr> live;
    for (;;) {
      CUdeviceptr pointer = 0;
      const size_t size = (random() % 2 == 0 ? 4096 : 2 << 20) * (1 + random() % 4);
      if (live.size() < 16 && driver_->cuMemAlloc(&pointer, size) == CUDA_SUCCESS) {
        live.push_back(pointer);
        continue;
      }
      const size_t victim = random() % live.size();
      TENURE_CHECK(driver_->cuMemFree(live[victim]) == CUDA_SUCCESS);
      live[victim] = live.back();
      live.pop_back();
    }
  }

  // The same with memory that descriptors name: creates, exports, imports and releases.
  std::string ChurnDescriptors(const Operands& words) {
    std::minstd_rand random(static_cast<std::minstd_rand::result_type>(Number(words.at(1))));
    for (;;) {
      VmmMapping mapping = {0, 0, (1 + random() % 4) * (2 << 20)};
      CUmemGenericAllocationHandle imported = 0;
      UniqueFd fd;
      TENURE_CHECK(tenure::testing::CreateVmm(*driver_, mapping.size, &mapping.handle) ==
                   CUDA_SUCCESS);
      TENURE_CHECK(tenure::testing::MapVmm(*driver_, &mapping) == CUDA_SUCCESS);
      TENURE_CHECK(tenure::testing::ExportVmm(*driver_, mapping.handle, &fd) == CUDA_SUCCESS);
      TENURE_CHECK(driver_->cuMemRelease(mapping.handle) == CUDA_SUCCESS);
      TENURE_CHECK(tenure::testing::ImportVmm(*driver_, fd.get(), &imported) == CUDA_SUCCESS);
      TENURE_CHECK(tenure::testing::UnmapVmm(*driver_, mapping) == CUDA_SUCCESS);
      TENURE_CHECK(driver_->cuMemRelease(imported) == CUDA_SUCCESS);
    }
  }

  std::string Exit(const Operands&) { std::exit(0); }

  std::function<std::string(const Operands&)> Bind(std::string (Peer::*verb)(const Operands&)) {
    return [this, verb](const Operands& words) { return (this->*verb)(words); };
  }

  const std::string path_;
  const int lifeline_;
  std::unique_ptr<Driver> driver_;
  std::vector<CUdeviceptr> pointers_;
  std::map<uint64_t, VmmMapping> mapped_;  // by the names that pointers_ gives
  UniqueFd descriptor_;                    // the last one that came along
  UniqueFd given_;                         // goes with the next answer
  const std::map<std::string, std::function<std::string(const Operands&)>> verbs_ = {
      {"context", Bind(&Peer::Context)},
      {"release", Bind(&Peer::Release)},
      {"allocate", Bind(&Peer::Allocate)},
      {"allocate-many", Bind(&Peer::AllocateMany)},
      {"free", Bind(&Peer::Free)},
      {"free-without-context", Bind(&Peer::FreeWithoutContext)},
      {"use-released-context", Bind(&Peer::UseReleasedContext)},
      {"export", Bind(&Peer::Export)},
      {"open", Bind(&Peer::Open)},
      {"close", Bind(&Peer::Close)},
      {"create", Bind(&Peer::Create)},
      {"import", Bind(&Peer::Import)},
      {"import-handle", Bind(&Peer::ImportHandle)},
      {"release-handle", Bind(&Peer::ReleaseHandle)},
      {"export-descriptor", Bind(&Peer::ExportDescriptor)},
      {"access", Bind(&Peer::Access)},
      {"release-mapped", Bind(&Peer::ReleaseMapped)},
      {"hold", Bind(&Peer::Hold)},
      {"give-back", Bind(&Peer::GiveBack)},
      {"close-descriptor", Bind(&Peer::CloseDescriptor)},
      {"open-descriptor", Bind(&Peer::OpenDescriptor)},
      {"churn-descriptors", Bind(&Peer::ChurnDescriptors)},
      {"distance", Bind(&Peer::Distance)},
      {"modulo", Bind(&Peer::Modulo)},
      {"fill", Bind(&Peer::Fill)},
      {"holds", Bind(&Peer::Holds)},
      {"fork-child", Bind(&Peer::ForkChild)},
      {"call-in-child", Bind(&Peer::CallInChild)},
      {"become-user", Bind(&Peer::BecomeUser)},
      {"churn", Bind(&Peer::Churn)},
      {"exit", Bind(&Peer::Exit)},
  };
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s DRIVER COMMANDS_FD LIFELINE_FD\n", argv[0]);
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  const int commands = static_cast<int>(Number(argv[2]));
  Peer peer(argv[1], static_cast<int>(Number(argv[3])));
  std::string pending;
  for (;;) {
    UniqueFd descriptor;
    if (!tenure::testing::ReceiveWithDescriptor(commands, &pending, &descriptor)) return 0;
    if (descriptor) peer.Take(std::move(descriptor));
    for (size_t end = pending.find('\n'); end != std::string::npos; end = pending.find('\n')) {
      const std::string answer = peer.Do(pending.substr(0, end)) + "\n";
      pending.erase(0, end + 1);
      const UniqueFd given = peer.Give();
      if (!tenure::testing::SendWithDescriptor(commands, answer, given.get())) return 0;
    }
  }
}

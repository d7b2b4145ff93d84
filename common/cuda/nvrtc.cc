#include "common/cuda/nvrtc.h"

#include <cstdlib>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/cuda/library.h"
#include "common/status_macros.h"

// Written out here, so that this builds with a toolkit that has no nvrtc.h.
// Source: NVIDIA's nvrtc.h, whose nvrtcResult is an enum with 0 for success.
extern "C" {

using nvrtcResult = int;
using nvrtcProgram = struct _nvrtcProgram*;

const char* nvrtcGetErrorString(nvrtcResult result);
nvrtcResult nvrtcCreateProgram(nvrtcProgram* program, const char* source, const char* name,
                               int headers, const char* const* header_sources,
                               const char* const* header_names);
nvrtcResult nvrtcDestroyProgram(nvrtcProgram* program);
nvrtcResult nvrtcCompileProgram(nvrtcProgram program, int options, const char* const* option);
nvrtcResult nvrtcGetProgramLogSize(nvrtcProgram program, size_t* bytes);
nvrtcResult nvrtcGetProgramLog(nvrtcProgram program, char* log);
nvrtcResult nvrtcGetCUBINSize(nvrtcProgram program, size_t* bytes);
nvrtcResult nvrtcGetCUBIN(nvrtcProgram program, char* cubin);

}  // extern "C"

#define TENURE_NVRTC_SYMBOLS(X) \
  X(nvrtcGetErrorString)        \
  X(nvrtcCreateProgram)         \
  X(nvrtcDestroyProgram)        \
  X(nvrtcCompileProgram)        \
  X(nvrtcGetProgramLogSize)     \
  X(nvrtcGetProgramLog)         \
  X(nvrtcGetCUBINSize)          \
  X(nvrtcGetCUBIN)

namespace tenure::cuda {
namespace {

constexpr nvrtcResult kNvrtcSuccess = 0;

// The compiler as a table, like Driver.
struct Compiler {
#define TENURE_NVRTC_MEMBER(symbol) decltype(&::symbol) symbol = nullptr;
  TENURE_NVRTC_SYMBOLS(TENURE_NVRTC_MEMBER)
#undef TENURE_NVRTC_MEMBER
};

absl::StatusOr<void*> OpenCompiler() {
  constexpr char kRemedy[] =
      "install NVIDIA's NVRTC (it is part of the CUDA toolkit), or name its file in TENURE_NVRTC";
  const char* named = std::getenv("TENURE_NVRTC");
  if (named != nullptr && *named != '\0') return OpenLibrary(named, kRemedy);
  // The older compiler is opened only if the newer is not installed. If the newer cannot be loaded,
  // its error says why.
  const absl::StatusOr<void*> newer = OpenLibrary("libnvrtc.so.13", kRemedy);
  if (newer.ok() || !absl::IsNotFound(newer.status())) return newer;
  return OpenLibrary("libnvrtc.so.12", kRemedy);
}

absl::StatusOr<Compiler> LoadCompiler() {
  TENURE_ASSIGN_OR_RETURN(void* const library, OpenCompiler());
  Compiler compiler;
#define TENURE_NVRTC_FILL(symbol)                                                              \
  compiler.symbol = reinterpret_cast<decltype(compiler.symbol)>(FindSymbol(library, #symbol)); \
  if (compiler.symbol == nullptr) {                                                            \
    return absl::FailedPreconditionError("the NVRTC library exports no " #symbol);             \
  }
  TENURE_NVRTC_SYMBOLS(TENURE_NVRTC_FILL)
#undef TENURE_NVRTC_FILL
  return compiler;
}

// One program in the compiler, destroyed with this.
class Program {
 public:
  explicit Program(const Compiler& compiler) : compiler_(compiler) {}
  ~Program() {
    if (program_ != nullptr) compiler_.nvrtcDestroyProgram(&program_);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  nvrtcResult Create(const std::string& source) {
    return compiler_.nvrtcCreateProgram(&program_, source.c_str(), "kernel.cu", 0, nullptr,
                                        nullptr);
  }
  nvrtcResult Compile(const std::string& option) {
    const char* options[] = {option.c_str()};
    return compiler_.nvrtcCompileProgram(program_, 1, options);
  }
  nvrtcResult GetCubin(std::string* cubin) {
    size_t bytes = 0;
    const nvrtcResult result = compiler_.nvrtcGetCUBINSize(program_, &bytes);
    if (result != kNvrtcSuccess) return result;
    cubin->resize(bytes);
    return compiler_.nvrtcGetCUBIN(program_, cubin->data());
  }
  std::string GetLog() {
    size_t bytes = 0;
    if (compiler_.nvrtcGetProgramLogSize(program_, &bytes) != kNvrtcSuccess) return "";
    // One byte more, so that the log ends with a zero in any case.
    std::vector<char> log(bytes + 1, '\0');
    return compiler_.nvrtcGetProgramLog(program_, log.data()) == kNvrtcSuccess ? log.data() : "";
  }

 private:
  const Compiler& compiler_;
  nvrtcProgram program_ = nullptr;
};

}  // namespace

absl::StatusOr<std::string> CompileToCubin(absl::string_view source,
                                           absl::string_view architecture) {
  TENURE_ASSIGN_OR_RETURN(const Compiler compiler, LoadCompiler());
  Program program(compiler);
  std::string cubin;
  nvrtcResult result = program.Create(std::string(source));
  if (result == kNvrtcSuccess) {
    result = program.Compile(absl::StrCat("--gpu-architecture=", architecture));
  }
  if (result == kNvrtcSuccess) result = program.GetCubin(&cubin);
  if (result == kNvrtcSuccess) return cubin;
  return absl::InvalidArgumentError(absl::StrCat("NVRTC could not compile for ", architecture, ": ",
                                                 compiler.nvrtcGetErrorString(result), "\n",
                                                 program.GetLog()));
}

}  // namespace tenure::cuda

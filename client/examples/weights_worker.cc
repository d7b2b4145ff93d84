// A worker whose weights are shared. The first worker loads the file into GPU memory, and the
// others attach to it. Each prints the time from its start to the end of its first kernel, which
// adds up all words of the weights.
#include <unistd.h>

#include <fstream>
#include <iostream>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include <CLI/CLI.hpp>

#include "client/client.h"
#include "client/examples/word_sum.h"
#include "client/segment.h"
#include "client/weights_file.h"
#include "common/bytes.h"
#include "common/clock.h"
#include "common/status_macros.h"

namespace tenure::examples {
namespace {

struct Options {
  std::string socket;
  std::string name;
  std::string file;
  uint64_t repeat = 1;
  bool verify = false;
  bool hold = false;
};

// The time at which this process was started, to a hundredth of a second.
// Source: proc(5), /proc/pid/stat, field 22, in ticks since boot.
BootTime ProcessStart() {
  std::ifstream file("/proc/self/stat");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  // Field 2, the program's name in parentheses, may itself contain blanks and parentheses. So the
  // fields are counted from the last one.
  const std::vector<std::string> fields = absl::StrSplit(text.substr(text.rfind(')') + 1), ' ');
  uint64_t ticks = 0;
  if (fields.size() <= 20 || !absl::SimpleAtoi(fields[20], &ticks)) return SystemClock().Now();
  return BootTime() +
         absl::Seconds(static_cast<double>(ticks) / static_cast<double>(sysconf(_SC_CLK_TCK)));
}

// The sum over all blocks.
absl::StatusOr<uint64_t> SumOf(WordSum& sum, const Segment& weights) {
  uint64_t total = 0;
  for (const SegmentBlock& block : weights.blocks()) {
    TENURE_ASSIGN_OR_RETURN(const uint64_t one, sum.Of(block.pointer, block.size));
    total += one;
  }
  return total;
}

// Adds up the weights again and again. Returns only when the sum changes or cannot be computed.
absl::Status Watch(WordSum& sum, const Segment& weights, uint64_t expected) {
  while (true) {
    TENURE_ASSIGN_OR_RETURN(const uint64_t now, SumOf(sum, weights));
    if (now != expected) {
      return absl::DataLossError(absl::StrFormat(
          "the weights have changed: their sum is %016x, no longer %016x", now, expected));
    }
    absl::SleepFor(absl::Milliseconds(100));
  }
}

absl::StatusOr<Segment> AttachOrLoad(Client& client, const Options& options, bool* loaded) {
  // Called only in the first worker; the others wait inside AttachOrLoad until it has published.
  const auto load = [&](Client& loader) -> absl::StatusOr<SegmentContents> {
    *loaded = true;
    TENURE_ASSIGN_OR_RETURN(const WeightsFile file, WeightsFile::Open(options.file));
    return file.Load(loader, {.memory_kind = MemoryKind::kVmmFd});
  };
  return client.AttachOrLoad(options.name, load);
}

absl::Status Run(const Options& options) {
  TENURE_ASSIGN_OR_RETURN(Client client,
                          Client::Connect({.socket = options.socket, .name = "weights_worker"}));
  TENURE_ASSIGN_OR_RETURN(WordSum sum, WordSum::Make(client));
  BootTime began = ProcessStart();
  Segment weights;
  uint64_t expected = 0;
  for (uint64_t round = 1; round <= options.repeat; ++round) {
    TENURE_RETURN_IF_ERROR(weights.Detach());
    // The first round counts from the start of the process, every other one from its Attach.
    if (round > 1) began = SystemClock().Now();
    bool loaded = false;
    TENURE_ASSIGN_OR_RETURN(weights, AttachOrLoad(client, options, &loaded));
    TENURE_ASSIGN_OR_RETURN(expected, SumOf(sum, weights));
    const absl::Duration took = SystemClock().Now() - began;
    if (options.verify) TENURE_RETURN_IF_ERROR(weights.Verify());
    std::cout << absl::StrFormat(
                     "weights_worker %d: %s '%s', %s (tensors: %d)%s; their sum, %016x, %s "
                     "after %.1f ms",
                     getpid(), loaded ? "loaded" : "attached", options.name,
                     FormatBytes(weights.size()), weights.tensors().size(),
                     options.verify ? ", verified" : "", expected, sum.where(),
                     absl::ToDoubleMilliseconds(took))
              << std::endl;
  }
  return options.hold ? Watch(sum, weights, expected) : weights.Detach();
}

}  // namespace
}  // namespace tenure::examples

int main(int argc, char** argv) {
  tenure::examples::Options options;
  CLI::App app{"Loads weights into GPU memory once and shares them with other processes.",
               "weights_worker"};
  app.add_option("--socket", options.socket, "The daemon's socket")->envname("TENURE_SOCKET");
  app.add_option("name", options.name, "The segment")->required();
  app.add_option("file", options.file,
                 "The file that the first worker loads: .safetensors, or any other")
      ->required();
  app.add_option("--repeat", options.repeat, "How many times to attach, use and detach")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1'000'000'000}))
      ->capture_default_str();
  app.add_flag("--verify", options.verify, "Read everything back and compare it with the digest");
  app.add_flag("--hold", options.hold,
               "Stay attached until killed; end with 1 if the weights change");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = tenure::examples::Run(options);
  if (status.ok()) return 0;
  std::cerr << "weights_worker: " << status.message() << "\n";
  return 1;
}

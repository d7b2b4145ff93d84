// A worker whose weights are shared: the first of all that run loads the file into GPU memory, the
// others attach what it has loaded, and each says how long it took from its start to the end of the
// first kernel on them, which adds up all their words.
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

// When this process was started, to a hundredth of a second.
// Source: proc(5), /proc/pid/stat, field 22, in ticks since boot.
BootTime ProcessStart() {
  std::ifstream file("/proc/self/stat");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  // The program's name, field 2, may have blanks and brackets in it, and ends with the last one.
  const std::vector<std::string> fields = absl::StrSplit(text.substr(text.rfind(')') + 1), ' ');
  uint64_t ticks = 0;
  if (fields.size() <= 20 || !absl::SimpleAtoi(fields[20], &ticks)) return SystemClock().Now();
  return BootTime() +
         absl::Seconds(static_cast<double>(ticks) / static_cast<double>(sysconf(_SC_CLK_TCK)));
}

// Of all blocks.
absl::StatusOr<uint64_t> SumOf(WordSum& sum, const Segment& weights) {
  uint64_t total = 0;
  for (const SegmentBlock& block : weights.blocks()) {
    const absl::StatusOr<uint64_t> one = sum.Of(block.pointer, block.size);
    if (!one.ok()) return one.status();
    total += *one;
  }
  return total;
}

// Until this process is killed, or they change.
absl::Status Watch(WordSum& sum, const Segment& weights, uint64_t expected) {
  while (true) {
    const absl::StatusOr<uint64_t> now = SumOf(sum, weights);
    if (!now.ok()) return now.status();
    if (*now != expected) {
      return absl::DataLossError(absl::StrFormat(
          "the weights have changed: their sum is %016x, no longer %016x", *now, expected));
    }
    absl::SleepFor(absl::Milliseconds(100));
  }
}

absl::StatusOr<Segment> AttachOrLoad(Client& client, const Options& options, bool* loaded) {
  const auto load = [&](Client& loader) -> absl::StatusOr<SegmentContents> {
    *loaded = true;
    const absl::StatusOr<WeightsFile> file = WeightsFile::Open(options.file);
    if (!file.ok()) return file.status();
    return file->Load(loader, {.memory_kind = MemoryKind::kVmmFd});
  };
  return client.AttachOrLoad(options.name, load);
}

absl::Status Run(const Options& options) {
  absl::StatusOr<Client> client =
      Client::Connect({.socket = options.socket, .name = "weights_worker"});
  if (!client.ok()) return client.status();
  absl::StatusOr<WordSum> sum = WordSum::Make(*client);
  if (!sum.ok()) return sum.status();
  BootTime began = ProcessStart();
  Segment weights;
  uint64_t expected = 0;
  for (uint64_t round = 1; round <= options.repeat; ++round) {
    const absl::Status detached = weights.Detach();
    if (!detached.ok()) return detached;
    if (round > 1) began = SystemClock().Now();
    bool loaded = false;
    absl::StatusOr<Segment> attached = AttachOrLoad(*client, options, &loaded);
    if (!attached.ok()) return attached.status();
    weights = *std::move(attached);
    const absl::StatusOr<uint64_t> total = SumOf(*sum, weights);
    if (!total.ok()) return total.status();
    expected = *total;
    const absl::Duration took = SystemClock().Now() - began;
    const absl::Status verified = options.verify ? weights.Verify() : absl::OkStatus();
    if (!verified.ok()) return verified;
    std::cout << absl::StrFormat(
                     "weights_worker %d: %s '%s', %s (tensors: %d)%s; their sum, %016x, %s "
                     "after %.1f ms",
                     getpid(), loaded ? "loaded" : "attached", options.name,
                     FormatBytes(weights.size()), weights.tensors().size(),
                     options.verify ? ", verified" : "", expected, sum->where(),
                     absl::ToDoubleMilliseconds(took))
              << std::endl;
  }
  return options.hold ? Watch(*sum, weights, expected) : weights.Detach();
}

}  // namespace
}  // namespace tenure::examples

int main(int argc, char** argv) {
  tenure::examples::Options options;
  CLI::App app{"Shares weights in GPU memory with other processes.", "weights_worker"};
  app.add_option("--socket", options.socket, "The daemon's socket")->envname("TENURE_SOCKET");
  app.add_option("name", options.name, "The segment")->required();
  app.add_option("file", options.file, "What the first worker loads: .safetensors, or any file")
      ->required();
  app.add_option("--repeat", options.repeat, "How often to attach, use and detach")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1'000'000'000}))
      ->capture_default_str();
  app.add_flag("--verify", options.verify, "Read everything back and compare it with the digest");
  app.add_flag("--hold", options.hold,
               "Stay attached until killed, and end with 1 should the weights ever change");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = tenure::examples::Run(options);
  if (status.ok()) return 0;
  std::cerr << "weights_worker: " << status.message() << "\n";
  return 1;
}

// The cost of one journal record, on the tmpfs that holds the journal, and of compacting the file.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "common/check.h"
#include "server/journal/journal.h"

namespace tenure::server {
namespace {

class Scratch {
 public:
  Scratch() : path_("/dev/shm/tenure-journal-XXXXXX") {
    TENURE_CHECK(mkdtemp(path_.data()) != nullptr);
  }
  ~Scratch() { std::filesystem::remove_all(path_); }

  std::unique_ptr<Journal> Create() const {
    journal::Opening opening;
    opening.set_epoch(1);
    absl::StatusOr<std::unique_ptr<Journal>> journal = Journal::Create(path_ + "/journal", opening);
    TENURE_CHECK(journal.ok());
    journal::Record record;
    record.mutable_session_opened()->set_session_id(1);
    record.mutable_session_opened()->set_pid(1);
    TENURE_CHECK((*journal)->Append(record).ok());
    return *std::move(journal);
  }

 private:
  std::string path_;
};

journal::Record Granted(uint64_t id) {
  journal::Record record;
  journal::BlockGranted& block = *record.mutable_block_granted();
  block.set_session_id(1);
  block.set_allocation_id(uint64_t{1} << 62 | id);
  block.set_request_id(id);
  block.set_region_id(uint64_t{1} << 62 | id);
  block.set_region_bytes(2 << 20);
  block.set_size_bytes(1 << 20);
  block.set_requested_bytes(1000000);
  return record;
}

void AppendOneGrant(benchmark::State& state) {
  const Scratch scratch;
  std::unique_ptr<Journal> journal = scratch.Create();
  std::vector<double> times;
  uint64_t id = 0;
  for (auto _ : state) {
    // The largest journal that a compaction leaves.
    if (journal->size() > uint64_t{64} << 20) {
      state.PauseTiming();
      journal = scratch.Create();
      state.ResumeTiming();
    }
    const journal::Record record = Granted(++id);
    const auto start = std::chrono::steady_clock::now();
    TENURE_CHECK(journal->Append(record).ok());
    times.push_back(
        std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(times.begin(), times.end());
  state.counters["p50_ns"] = times[times.size() / 2];
  state.counters["p99_ns"] = times[times.size() * 99 / 100];
  state.counters["bytes"] = static_cast<double>(Granted(id).ByteSizeLong() + kFrameHeaderBytes);
}
BENCHMARK(AppendOneGrant);

// A journal of 16 MiB in which few records are live.
void Compact(benchmark::State& state) {
  const Scratch scratch;
  for (auto _ : state) {
    state.PauseTiming();
    const std::unique_ptr<Journal> journal = scratch.Create();
    journal::Record freed;
    for (uint64_t id = 1; !journal->ShouldCompact(); ++id) {
      const journal::Record granted = Granted(id);
      TENURE_CHECK(journal->Append(granted).ok());
      if (id % 100 == 0) continue;
      freed.mutable_block_freed()->set_session_id(1);
      freed.mutable_block_freed()->set_allocation_id(granted.block_granted().allocation_id());
      freed.mutable_block_freed()->set_request_id(uint64_t{1} << 32 | id);
      TENURE_CHECK(journal->Append(freed).ok());
    }
    state.ResumeTiming();
    TENURE_CHECK(journal->Compact().ok());
    state.PauseTiming();
    state.counters["bytes_after"] = static_cast<double>(journal->size());
    state.ResumeTiming();
  }
}
BENCHMARK(Compact)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tenure::server

BENCHMARK_MAIN();

// Trace files: any bytes give events that keep the reader's invariants, or one error.

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <set>
#include <string>

#include "client/ctl/replay/trace.h"
#include "common/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using tenure::ctl::TraceReader;
  // A file without a disk.
  static const int file = memfd_create("trace", MFD_CLOEXEC);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  TENURE_CHECK(ftruncate(file, 0) == 0);
  TENURE_CHECK(pwrite(file, data, size, 0) == static_cast<ssize_t>(size));
  auto reader = TraceReader::Open(path);
  if (!reader.ok()) return 0;
  std::set<uint64_t> live;
  while (true) {
    const auto event = (*reader)->Next();
    if (!event.ok() || !event->has_value()) return 0;
    const tenure::ctl::TraceEvent& one = **event;
    if (one.kind == tenure::ctl::TraceEvent::Kind::kAllocate) {
      TENURE_CHECK(one.size > tenure::Bytes(0) && one.size <= TraceReader::kMaxSize);
      TENURE_CHECK(live.insert(one.id).second);
    } else {
      TENURE_CHECK(live.erase(one.id) == 1);
    }
  }
}

// A journal of any bytes: the state is the fold of its complete records, however the file is cut
// into reads, and folding the records of that state gives the same state.

#include <algorithm>
#include <cstdint>
#include <string>

#include "common/check.h"
#include "server/journal/journal_fold.h"

namespace {

using tenure::server::JournalFold;
using tenure::server::JournalState;
namespace journal = tenure::journal::v1;

std::string Print(const JournalState& state) {
  std::string all;
  const absl::Status printed = state.ForEachRecord([&all](const journal::Record& record) {
    return tenure::server::AppendFrame(1, record, all);
  });
  TENURE_CHECK(printed.ok());
  return all;
}

void FoldFile(absl::string_view bytes, const journal::Opening& now) {
  JournalFold whole("fuzz", now);
  const absl::Status taken = whole.Apply(bytes);
  TENURE_CHECK(whole.valid_bytes() <= bytes.size());
  if (whole.records() == 0) return;
  // The valid part alone gives the same state, and no fault.
  JournalFold valid("fuzz", now);
  TENURE_CHECK(valid.Apply(bytes.substr(0, whole.valid_bytes())).ok());
  TENURE_CHECK(valid.records() == whole.records());
  const std::string print = Print(whole.state());
  TENURE_CHECK(Print(valid.state()) == print);
  JournalState again;
  const absl::Status folded = whole.state().ForEachRecord(
      [&again](const journal::Record& record) { return again.Apply(record); });
  TENURE_CHECK(folded.ok());
  TENURE_CHECK(Print(again) == print);
}

// Makes a file of the records in `data`, each after its length in two bytes. The checksums are
// added here, because few inputs would have right ones. A record that the state refuses is left
// out.
std::string FileOfRecords(absl::string_view data) {
  std::string file(tenure::server::kJournalMagic);
  JournalState state;
  uint64_t sequence = 1;
  while (data.size() >= 2) {
    const size_t length =
        std::min<size_t>(data.size() - 2, static_cast<uint8_t>(data[0]) +
                                              size_t{256} * static_cast<uint8_t>(data[1]));
    journal::Record record;
    if (record.ParseFromArray(data.data() + 2, static_cast<int>(length)) &&
        state.Apply(record).ok()) {
      TENURE_CHECK(tenure::server::AppendFrame(sequence++, record, file).ok());
    }
    data.remove_prefix(2 + length);
  }
  return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const absl::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  journal::Opening now;
  now.set_boot_id("boot");
  now.set_device_uuid("GPU");
  // The first byte says whether the rest is a file, or records for FileOfRecords.
  if (data[0] % 2 == 0) {
    FoldFile(bytes, now);
  } else {
    FoldFile(FileOfRecords(bytes), now);
  }
  return 0;
}

// The raw bytes of a connection: whether the meter accepts them depends on the bytes alone, not on
// how they are cut into reads. After a refusal it accepts nothing more.

#include <algorithm>
#include <cstdint>

#include "common/check.h"
#include "server/transport/frame_meter.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using tenure::server::FrameMeter;
  if (size == 0) return 0;
  const tenure::BootTime now = absl::Hours(1);
  // The first byte says how the rest is cut into reads. The preface is sent before, because few
  // inputs would begin with it.
  const size_t step = 1 + data[0];
  const absl::string_view preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  const absl::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  FrameMeter whole;
  TENURE_CHECK(whole.Read(preface, now).ok());
  const absl::Status verdict = whole.Read(bytes, now);
  FrameMeter parts;
  TENURE_CHECK(parts.Read(preface, now).ok());
  absl::Status verdict_of_parts;
  for (size_t at = 0; at < bytes.size() && verdict_of_parts.ok(); at += step) {
    verdict_of_parts = parts.Read(bytes.substr(at, step), now);
  }
  TENURE_CHECK(verdict == verdict_of_parts);
  return 0;
}

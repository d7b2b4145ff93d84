// Reads recorded allocation traces.
#ifndef CLIENT_CTL_REPLAY_TRACE_H_
#define CLIENT_CTL_REPLAY_TRACE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include <nlohmann/json.hpp>
#include <zlib.h>

#include "common/bytes.h"

namespace tenure::ctl {

// The format is text, plain or gzipped. The first line is "# " and a JSON object about the
// recording. Then follows one event a line, in order of time:
//   a ID BYTES STREAM T_US   allocate
//   f ID 0 0 T_US            free
// Ids count upwards from 1. T_US is in microseconds since the first event.
struct TraceEvent {
  enum class Kind { kAllocate, kFree };
  Kind kind = Kind::kAllocate;
  uint64_t id = 0;
  Bytes size;  // asked for; zero for a free
  uint32_t stream = 0;
  absl::Duration time;
};

// Reads a trace event by event. Holds one chunk of the file and the live ids, never the whole file.
//
// Invariants:
//   1. an id is allocated once, and freed at most once and only while it is live;
//   2. sizes are 1 to kMaxSize, and times do not decrease;
//   3. at most kMaxLive ids are live.
// Owns: the open file.
// Thread safety: thread-compatible.
// Errors: NOT_FOUND, PERMISSION_DENIED: the file cannot be opened. INVALID_ARGUMENT: it is not a
// trace; the message names the line. Do not call Next again after an error.
class TraceReader {
 public:
  // 1 PiB: larger than the memory of any device.
  static constexpr Bytes kMaxSize = GiB(1 << 20);
  // As many allocations as a daemon holds at once.
  static constexpr size_t kMaxLive = 1 << 20;
  static constexpr size_t kMaxLine = 4096;

  static absl::StatusOr<std::unique_ptr<TraceReader>> Open(const std::string& path);
  ~TraceReader();
  TraceReader(const TraceReader&) = delete;
  TraceReader& operator=(const TraceReader&) = delete;

  // The first line's JSON object.
  const nlohmann::json& header() const { return header_; }
  // The next event; nullopt at the end of the trace.
  absl::StatusOr<std::optional<TraceEvent>> Next();

 private:
  TraceReader(std::string path, gzFile file) : path_(std::move(path)), file_(file) {}

  absl::Status ReadHeader();
  // The next line without its newline, valid until the next call; nullopt at the end of the file.
  absl::StatusOr<std::optional<absl::string_view>> NextLine();
  // False at the end of the file.
  absl::StatusOr<bool> Refill();
  absl::Status Check(const TraceEvent& event);
  absl::Status Malformed(absl::string_view what) const;

  const std::string path_;
  const gzFile file_;
  nlohmann::json header_;
  std::string buffer_;
  size_t consumed_ = 0;  // of the buffer
  uint64_t line_ = 0;
  uint64_t last_id_ = 0;
  absl::Duration last_time_;
  absl::flat_hash_set<uint64_t> live_;
};

// Parses one line of a trace; nullopt if it is not an event. TraceReader uses it, and checks in
// addition the rules that span several lines.
std::optional<TraceEvent> ParseTraceEvent(absl::string_view line);

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_REPLAY_TRACE_H_

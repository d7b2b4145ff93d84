#include "client/ctl/replay/trace.h"

#include <errno.h>

#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "common/status_macros.h"

namespace tenure::ctl {
namespace {

constexpr unsigned kChunk = 64 << 10;

// Digits only: SimpleAtoi alone would also accept signs and spaces.
bool ParseNumber(absl::string_view text, uint64_t* value) {
  return !text.empty() && text.find_first_not_of("0123456789") == absl::string_view::npos &&
         absl::SimpleAtoi(text, value);
}

// The five fields between single spaces.
std::optional<std::array<absl::string_view, 5>> SplitFields(absl::string_view line) {
  std::array<absl::string_view, 5> fields;
  for (size_t i = 0; i + 1 < fields.size(); ++i) {
    const size_t space = line.find(' ');
    if (space == absl::string_view::npos) return std::nullopt;
    fields[i] = line.substr(0, space);
    line.remove_prefix(space + 1);
  }
  fields.back() = line;
  return fields;
}

}  // namespace

std::optional<TraceEvent> ParseTraceEvent(absl::string_view line) {
  const std::optional<std::array<absl::string_view, 5>> fields = SplitFields(line);
  if (!fields) return std::nullopt;
  const auto& [kind, id, size, stream, time] = *fields;
  uint64_t size_bytes = 0;
  uint64_t stream_index = 0;
  uint64_t time_us = 0;
  TraceEvent event;
  if (!ParseNumber(id, &event.id) || !ParseNumber(size, &size_bytes) ||
      !ParseNumber(stream, &stream_index) || !ParseNumber(time, &time_us)) {
    return std::nullopt;
  }
  // Limits: 32 bits of stream, and 10^16 us (317 years), which absl::Microseconds can represent.
  // Larger values are mistakes of the program that wrote the trace.
  if (stream_index > UINT32_MAX || time_us > uint64_t{10'000'000'000'000'000}) return std::nullopt;
  if (kind != "a" && kind != "f") return std::nullopt;
  event.kind = kind == "a" ? TraceEvent::Kind::kAllocate : TraceEvent::Kind::kFree;
  event.size = Bytes(size_bytes);
  event.stream = static_cast<uint32_t>(stream_index);
  event.time = absl::Microseconds(static_cast<int64_t>(time_us));
  return event;
}

absl::StatusOr<std::unique_ptr<TraceReader>> TraceReader::Open(const std::string& path) {
  errno = 0;
  const gzFile file = gzopen(path.c_str(), "rbe");
  if (file == nullptr) {
    const int error = errno == 0 ? ENOMEM : errno;
    return absl::ErrnoToStatus(error, absl::StrCat("open trace ", path));
  }
  std::unique_ptr<TraceReader> reader(new TraceReader(path, file));
  TENURE_RETURN_IF_ERROR(reader->ReadHeader());
  return reader;
}

TraceReader::~TraceReader() { gzclose_r(file_); }

absl::Status TraceReader::Malformed(absl::string_view what) const {
  return absl::InvalidArgumentError(absl::StrCat("trace ", path_, ", line ", line_, ": ", what));
}

absl::Status TraceReader::ReadHeader() {
  TENURE_ASSIGN_OR_RETURN(const std::optional<absl::string_view> line, NextLine());
  absl::string_view text = line.value_or("");
  if (!absl::ConsumePrefix(&text, "# ")) {
    return Malformed("a trace begins with '# ' and JSON about the recording");
  }
  header_ = nlohmann::json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!header_.is_object()) return Malformed("the text after '# ' is not a JSON object");
  return absl::OkStatus();
}

absl::StatusOr<bool> TraceReader::Refill() {
  buffer_.erase(0, std::exchange(consumed_, 0));
  const size_t kept = buffer_.size();
  buffer_.resize(kept + kChunk);
  const int got = gzread(file_, buffer_.data() + kept, kChunk);
  buffer_.resize(kept + static_cast<size_t>(got > 0 ? got : 0));
  int error = Z_OK;
  gzerror(file_, &error);
  // At the end of a truncated file gzread returns no error; only gzerror reports it.
  if (error == Z_BUF_ERROR) return Malformed("the gzip data ends early");
  if (got < 0) return Malformed("the gzip data is damaged");
  return got > 0;
}

absl::StatusOr<std::optional<absl::string_view>> TraceReader::NextLine() {
  ++line_;
  while (true) {
    const absl::string_view unread = absl::string_view(buffer_).substr(consumed_);
    const size_t end = unread.find('\n');
    // npos is larger than kMaxLine, so the limit also applies to a line whose end has not been
    // read.
    if (end > kMaxLine && unread.size() > kMaxLine) {
      return Malformed(absl::StrCat("longer than ", kMaxLine, " bytes"));
    }
    if (end != absl::string_view::npos) {
      consumed_ += end + 1;
      return unread.substr(0, end);
    }
    // Only now is more read: one read may hold many lines. Refill moves the buffer, so `unread` and
    // every line returned before are invalid after it.
    TENURE_ASSIGN_OR_RETURN(const bool more, Refill());
    if (more) continue;
    if (!buffer_.empty()) return Malformed("the last line has no newline: the file was cut");
    return std::nullopt;
  }
}

absl::Status TraceReader::Check(const TraceEvent& event) {
  if (event.time < last_time_) return Malformed("the time is before that of the previous line");
  last_time_ = event.time;
  if (event.kind == TraceEvent::Kind::kFree) {
    if (live_.erase(event.id) == 0) {
      return Malformed(absl::StrCat("frees ", event.id, ", which is not allocated"));
    }
    return event.size == Bytes(0) ? absl::OkStatus() : Malformed("the size of a free must be 0");
  }
  if (event.id <= last_id_) {
    return Malformed(absl::StrCat("allocates ", event.id, " after ", last_id_,
                                  ": ids must increase, and each is used once"));
  }
  if (event.size < Bytes(1) || event.size > kMaxSize) {
    return Malformed(absl::StrCat("allocates ", event.size.value(), " bytes: 1 to ",
                                  kMaxSize.value(), " are possible"));
  }
  if (live_.size() == kMaxLive) {
    return Malformed(absl::StrCat("more than ", kMaxLive, " blocks at once"));
  }
  last_id_ = event.id;
  live_.insert(event.id);
  return absl::OkStatus();
}

absl::StatusOr<std::optional<TraceEvent>> TraceReader::Next() {
  TENURE_ASSIGN_OR_RETURN(const std::optional<absl::string_view> line, NextLine());
  if (!line) return std::nullopt;
  const std::optional<TraceEvent> event = ParseTraceEvent(*line);
  if (!event) {
    return Malformed("neither 'a ID BYTES STREAM T_US' nor 'f ID 0 0 T_US' with numbers in range");
  }
  TENURE_RETURN_IF_ERROR(Check(*event));
  return event;
}

}  // namespace tenure::ctl

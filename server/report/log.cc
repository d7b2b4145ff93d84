#include "server/report/log.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include "common/standard_files.h"
#include "common/unique_fd.h"

namespace tenure::server {
namespace {

mode_t KindOf(int fd) {
  struct stat info = {};
  return fstat(fd, &info) == 0 ? info.st_mode & S_IFMT : 0;
}

// stderr once more, opened so that a write does not wait. O_NONBLOCK on stderr itself would change
// it for all processes that share it, such as the shell of a terminal.
UniqueFd OpenAgain(mode_t kind) {
  if (kind != S_IFIFO && kind != S_IFCHR) return UniqueFd();
  return UniqueFd(open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
}

// Whether stderr is a stream of systemd's journal.
bool IsJournal() {
  const char* stream = std::getenv("JOURNAL_STREAM");
  struct stat info = {};
  return stream != nullptr && fstat(STDERR_FILENO, &info) == 0 &&
         absl::StrCat(static_cast<uint64_t>(info.st_dev), ":",
                      static_cast<uint64_t>(info.st_ino)) == stream;
}

// The priorities of syslog(3).
int PriorityOf(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::critical:
      return 2;
    case spdlog::level::err:
      return 3;
    case spdlog::level::warn:
      return 4;
    case spdlog::level::info:
      return 6;
    default:
      return 7;
  }
}

// Thread safety: thread-safe. Its lock is held for a write that does not wait.
class StderrSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  StderrSink() : kind_(KindOf(STDERR_FILENO)), again_(OpenAgain(kind_)), journal_(IsJournal()) {
    if (journal_) set_pattern("%v");
  }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    if (dropped_ > 0 && Write(Line(spdlog::level::warn, DroppedLine()))) dropped_ = 0;
    spdlog::memory_buf_t text;
    formatter_->format(message, text);
    if (dropped_ > 0 || !Write(Line(message.level, std::string(text.data(), text.size())))) {
      ++dropped_;
    }
  }
  void flush_() override {}

 private:
  std::string DroppedLine() const {
    return absl::StrCat("[tenured] ", dropped_,
                        " lines of this log were dropped: nobody read stderr\n");
  }

  std::string Line(spdlog::level::level_enum level, std::string text) const {
    if (journal_) text = absl::StrCat("<", PriorityOf(level), ">", text);
    // A pipe takes this much whole or not at all.
    if (text.size() > PIPE_BUF) text.replace(PIPE_BUF - 4, std::string::npos, "...\n");
    return text;
  }

  // Whether stderr has taken the line. What remains of one that it took in part is lost.
  bool Write(const std::string& line) {
    const std::string text = (torn_ ? "\n" : "") + line;
    ssize_t written = 0;
    if (again_) {
      written = write(again_.get(), text.data(), text.size());
    } else if (kind_ == S_IFSOCK) {
      written = send(STDERR_FILENO, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    } else {
      // A regular file has no reader to wait for. A pipe of another user, which cannot be opened
      // again, is asked first.
      return WriteToStderr(text);
    }
    if (written <= 0) return false;
    torn_ = static_cast<size_t>(written) < text.size();
    return true;
  }

  const mode_t kind_;
  const UniqueFd again_;
  const bool journal_;
  uint64_t dropped_ = 0;
  bool torn_ = false;  // the last line that was written lacks its end
};

}  // namespace

void StartLog(const std::string& level) {
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("tenured", std::make_shared<StderrSink>()));
  // spdlog's own handler writes to stderr and waits.
  spdlog::set_error_handler([](const std::string&) {});
  SetLogLevel(level);
}

void SetLogLevel(const std::string& level) { spdlog::set_level(spdlog::level::from_str(level)); }

}  // namespace tenure::server

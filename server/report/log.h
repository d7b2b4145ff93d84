// Where the daemon's log goes: stderr, without ever waiting for its reader.
#ifndef SERVER_REPORT_LOG_H_
#define SERVER_REPORT_LOG_H_

#include <string>

namespace tenure::server {

// Makes stderr the log of this process, with the lines of this level ("debug", "info", "warn",
// "error", "off") and of the more severe ones.
//
// A line that stderr does not take at once is dropped, and the next line that it takes is preceded
// by the number of those. So a reader that stops reading stops nothing here. When stderr is the
// journal ($JOURNAL_STREAM names it), a line begins with its priority as <N>, and has no time of
// its own.
// Source: systemd.exec(5) for JOURNAL_STREAM, sd-daemon(3) for <N>.
void StartLog(const std::string& level);

// Changes the level.
void SetLogLevel(const std::string& level);

}  // namespace tenure::server

#endif  // SERVER_REPORT_LOG_H_

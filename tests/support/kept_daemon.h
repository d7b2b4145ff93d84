// A tenured under its keeper; a test may kill either.
#ifndef TESTS_SUPPORT_KEPT_DAEMON_H_
#define TESTS_SUPPORT_KEPT_DAEMON_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "tests/support/test_daemon.h"

namespace tenure::testing {

// Thread safety: thread-compatible.
class KeptDaemon : public TestDaemon {
 public:
  explicit KeptDaemon(std::vector<std::string> flags = {}, const std::string& memory = "2GiB");
  explicit KeptDaemon(Options options);

  pid_t keeper_pid() const { return pid(); }
  // The keeper's child; 0 while there is none.
  pid_t daemon_pid() const;
  // Returns when a child other than this one serves; false when none does.
  bool AwaitNext(pid_t before);
  // Sends SIGKILL to the child. Returns true when the next one serves, false when none does.
  bool KillAndAwaitNext();
};

// The path of the journal of this daemon.
std::string JournalOf(const TestDaemon& daemon);

}  // namespace tenure::testing

#endif  // TESTS_SUPPORT_KEPT_DAEMON_H_

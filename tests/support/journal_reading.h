// Reads a daemon's journal as the next daemon would. Needs the library tenure_journal.
#ifndef TESTS_SUPPORT_JOURNAL_READING_H_
#define TESTS_SUPPORT_JOURNAL_READING_H_

#include <fstream>
#include <string>

#include "absl/status/statusor.h"

#include "server/journal/journal_fold.h"
#include "tests/support/kept_daemon.h"

namespace tenure::testing {

// REQUIRES: the daemon serves.
inline absl::StatusOr<server::JournalReading> ReadJournalOf(TestDaemon& daemon) {
  server::journal::Opening now;
  std::ifstream boot("/proc/sys/kernel/random/boot_id");
  std::getline(boot, *now.mutable_boot_id());
  now.set_device_uuid(daemon.GetStats().device_uuid());
  return server::ReadJournal(JournalOf(daemon), now);
}

}  // namespace tenure::testing

#endif  // TESTS_SUPPORT_JOURNAL_READING_H_

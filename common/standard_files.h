// Descriptors 0 to 2, as a process finds them and as it may use them.
#ifndef COMMON_STANDARD_FILES_H_
#define COMMON_STANDARD_FILES_H_

#include "absl/strings/string_view.h"

namespace tenure {

// Opens /dev/null as each of the descriptors 0 to 2 that is closed. Otherwise the next file that
// the process opens gets such a number, and a line for stderr is written into that file, which may
// be the device's memory.
// REQUIRES: no other thread runs.
void OpenStandardFiles();

// In the source of a program's main: calls OpenStandardFiles before everything else. main itself
// would be too late, because the initialisers of libgrpc.so open files.
// Source: the System V ABI, DT_PREINIT_ARRAY, which only an executable may have.
#define TENURE_OPEN_STANDARD_FILES_FIRST                                   \
  __attribute__((section(".preinit_array"),                                \
                 used)) void (*const tenure_open_standard_files_first)() = \
      &::tenure::OpenStandardFiles

// Writes to stderr what it takes without waiting, and drops the rest: for words before an end,
// which must not wait for a reader. Returns whether it took all. Thread safety: async-signal-safe.
bool WriteToStderr(absl::string_view text);

}  // namespace tenure

#endif  // COMMON_STANDARD_FILES_H_

#include "common/check.h"

#include <array>
#include <cstdio>
#include <cstdlib>

#include "common/standard_files.h"

namespace tenure {

void CheckFailed(const char* file, int line, const char* claim) {
  // Neither through stderr's buffer nor by a write that waits: a process whose stderr nobody reads
  // must end, too.
  std::array<char, 1024> text = {};
  std::snprintf(text.data(), text.size(), "%s:%d: check failed: %s\n", file, line, claim);
  WriteToStderr(text.data());
  std::abort();
}

}  // namespace tenure

#include "common/check.h"

#include <cstdio>
#include <cstdlib>

namespace tenure {

void CheckFailed(const char* file, int line, const char* claim) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, claim);
  std::abort();
}

}  // namespace tenure

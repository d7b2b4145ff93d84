// Assertions about tenure's own code.
#ifndef COMMON_CHECK_H_
#define COMMON_CHECK_H_

// A failed check is a bug of tenure. An error of a client, a user or the driver is an
// absl::Status and never a failed check. TENURE_CHECK stays on in release builds; TENURE_DCHECK is
// on only where NDEBUG is not defined.
#include "common/export.h"

namespace tenure {

// Prints the file, the line and the claim to stderr, and aborts.
[[noreturn]] TENURE_EXPORT void CheckFailed(const char* file, int line, const char* claim);

}  // namespace tenure

#define TENURE_CHECK(claim)                                                          \
  (__builtin_expect(!(claim), 0) ? ::tenure::CheckFailed(__FILE__, __LINE__, #claim) \
                                 : static_cast<void>(0))

#ifdef NDEBUG
#define TENURE_DCHECK(claim) static_cast<void>(sizeof(!(claim)))
#else
#define TENURE_DCHECK(claim) TENURE_CHECK(claim)
#endif

#endif  // COMMON_CHECK_H_

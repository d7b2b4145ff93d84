// Assertions about our own code. A failed check is a bug of tenure's, never of a client, a user or
// the driver: those get an absl::Status. Checks stay on in release builds, debug checks only where
// NDEBUG is not defined.
#ifndef COMMON_CHECK_H_
#define COMMON_CHECK_H_

namespace tenure {

// Prints the place and the broken claim to stderr and aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* claim);

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

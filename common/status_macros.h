// Passing a failure on to the caller in one line.
#ifndef COMMON_STATUS_MACROS_H_
#define COMMON_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns from this function when the absl::Status of the expression is not OK. Variadic, because
// the preprocessor splits an expression at the commas of its template arguments.
#define TENURE_RETURN_IF_ERROR(...)                                                            \
  do {                                                                                         \
    if (absl::Status tenure_status = (__VA_ARGS__); !tenure_status.ok()) return tenure_status; \
  } while (false)

// TENURE_ASSIGN_OR_RETURN(const Region region, heap.Take(size)): declares or assigns `target` from
// the absl::StatusOr of the expression, or returns its status. Two statements: not for the body of
// an `if` without braces.
#define TENURE_ASSIGN_OR_RETURN(target, ...) \
  TENURE_ASSIGN_OR_RETURN_TO(TENURE_CONCATENATE(tenure_result_, __LINE__), target, __VA_ARGS__)

#define TENURE_ASSIGN_OR_RETURN_TO(result, target, ...) \
  auto result = (__VA_ARGS__);                          \
  if (!result.ok()) return std::move(result).status();  \
  target = *std::move(result)
#define TENURE_CONCATENATE(a, b) TENURE_CONCATENATE_EXPANDED(a, b)
#define TENURE_CONCATENATE_EXPANDED(a, b) a##b

#endif  // COMMON_STATUS_MACROS_H_

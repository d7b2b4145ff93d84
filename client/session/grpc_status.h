// gRPC's status as Abseil's.
#ifndef CLIENT_SESSION_GRPC_STATUS_H_
#define CLIENT_SESSION_GRPC_STATUS_H_

#include "absl/status/status.h"
#include <grpcpp/support/status.h>

namespace tenure {

// gRPC's codes and Abseil's have the same numbers.
inline absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

}  // namespace tenure

#endif  // CLIENT_SESSION_GRPC_STATUS_H_

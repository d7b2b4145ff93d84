// One daemon per device.
#ifndef SERVER_INSTANCE_LOCK_H_
#define SERVER_INSTANCE_LOCK_H_

#include <string>

#include "absl/status/statusor.h"

#include "common/unique_fd.h"

namespace tenure::server {

// Claims a device for this process until it ends, whichever way it ends. ALREADY_EXISTS when
// another daemon has it.
//
// The claim is a name in the kernel's table of abstract unix sockets: it needs no folder that all
// users can write, is gone with the process, and leaves no file behind. Its limit: a daemon in
// another network namespace is not seen.
absl::StatusOr<UniqueFd> ClaimDevice(const std::string& device_uuid);

}  // namespace tenure::server

#endif  // SERVER_INSTANCE_LOCK_H_

// The lock that keeps a second daemon off a device.
#ifndef SERVER_INSTANCE_LOCK_H_
#define SERVER_INSTANCE_LOCK_H_

#include <string>

#include "absl/status/statusor.h"

#include "common/unique_fd.h"

namespace tenure::server {

// Claims a device for as long as the returned descriptor is open, and so at most until this process
// ends.
//
// The claim is a name in the kernel's table of abstract unix sockets. It needs no folder that all
// users can write, ends with the process, and leaves no file behind. It does not see a daemon in
// another network namespace.
// Errors: ALREADY_EXISTS: another daemon has claimed the device.
absl::StatusOr<UniqueFd> ClaimDevice(const std::string& device_uuid);

}  // namespace tenure::server

#endif  // SERVER_INSTANCE_LOCK_H_

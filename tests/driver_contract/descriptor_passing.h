// Sends and receives bytes over a unix socket, with or without a file descriptor.
#ifndef TESTS_DRIVER_CONTRACT_DESCRIPTOR_PASSING_H_
#define TESTS_DRIVER_CONTRACT_DESCRIPTOR_PASSING_H_

#include <string>

#include "absl/strings/string_view.h"

#include "common/unique_fd.h"

namespace tenure::testing {

// Sends the bytes with a copy of `descriptor`, or without one if it is -1. False: the other side
// has closed the connection. Source: unix(7), SCM_RIGHTS.
bool SendWithDescriptor(int socket, absl::string_view bytes, int descriptor);

// Appends the next bytes, and stores a descriptor that comes with them. False: the other side has
// closed the connection.
bool ReceiveWithDescriptor(int socket, std::string* bytes, UniqueFd* descriptor);

}  // namespace tenure::testing

#endif  // TESTS_DRIVER_CONTRACT_DESCRIPTOR_PASSING_H_

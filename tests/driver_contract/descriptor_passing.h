// Bytes over a unix socket, with or without a file descriptor.
//
// Source: unix(7), SCM_RIGHTS.
#ifndef TESTS_DRIVER_CONTRACT_DESCRIPTOR_PASSING_H_
#define TESTS_DRIVER_CONTRACT_DESCRIPTOR_PASSING_H_

#include <string>

#include "absl/strings/string_view.h"

#include "common/unique_fd.h"

namespace tenure::testing {

// `descriptor`: -1 for none. False: nobody reads any more.
bool SendWithDescriptor(int socket, absl::string_view bytes, int descriptor);

// Appends what comes next, and keeps a descriptor that comes with it. False: the other side ended.
bool ReceiveWithDescriptor(int socket, std::string* bytes, UniqueFd* descriptor);

}  // namespace tenure::testing

#endif  // TESTS_DRIVER_CONTRACT_DESCRIPTOR_PASSING_H_

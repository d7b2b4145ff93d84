// The whole C++ client: sessions, buffers, tensors.
#ifndef TENURE_CLIENT_H_
#define TENURE_CLIENT_H_

#include "client/client.h"
#include "client/tensor.h"

#endif  // TENURE_CLIENT_H_

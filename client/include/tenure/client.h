// The whole C++ client: sessions, buffers, tensors, segments.
#ifndef TENURE_CLIENT_H_
#define TENURE_CLIENT_H_

#if __cplusplus < 202002L
#error "tenure needs C++20: compile with -std=c++20 or later"
#endif

#include "client/client.h"
#include "client/segment.h"
#include "client/tensor.h"
#include "client/weights/digest.h"
#include "client/weights_file.h"

#endif  // TENURE_CLIENT_H_

// The whole C++ client: sessions, buffers, tensors, segments.
#ifndef TENURE_CLIENT_H_
#define TENURE_CLIENT_H_

#include "client/client.h"
#include "client/segment.h"
#include "client/tensor.h"
#include "client/weights/digest.h"
#include "client/weights_file.h"

#endif  // TENURE_CLIENT_H_

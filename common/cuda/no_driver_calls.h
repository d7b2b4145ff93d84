#ifndef COMMON_CUDA_NO_DRIVER_CALLS_H_
#define COMMON_CUDA_NO_DRIVER_CALLS_H_

namespace tenure::cuda {

// While one of these lives, a driver call on the same thread is a bug and aborts a debug build. Put
// it beside a lock under which nobody may wait for the driver: an allocation can take 250 ms, a
// free 33 ms.
//
// Thread safety: thread-confined; guards of one thread nest.
class NoDriverCalls {
 public:
  NoDriverCalls();
  ~NoDriverCalls();
  NoDriverCalls(const NoDriverCalls&) = delete;
  NoDriverCalls& operator=(const NoDriverCalls&) = delete;

  // Whether the calling thread holds one.
  static bool Held();
};

}  // namespace tenure::cuda

#endif  // COMMON_CUDA_NO_DRIVER_CALLS_H_

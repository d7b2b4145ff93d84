// Whether CUDA's Multi-Process Service (MPS) runs.
#ifndef COMMON_CUDA_MPS_H_
#define COMMON_CUDA_MPS_H_

#include <optional>
#include <string>

namespace tenure::cuda {

// The folder in which an MPS control daemon listens that programs with this environment would use;
// nullopt when there is none. Under MPS all clients share one context. The driver's list of
// processes then names the MPS server instead of them, and a fault of one client ends all.
//
// Thread safety: thread-safe.
// Source: NVIDIA's Multi-Process Service documentation: the folder is CUDA_MPS_PIPE_DIRECTORY, by
// default /tmp/nvidia-mps, and a program uses MPS when its attempt to connect there succeeds.
std::optional<std::string> FindMps();

}  // namespace tenure::cuda

#endif  // COMMON_CUDA_MPS_H_

#ifndef CLIENT_SESSION_DEVICE_FILES_H_
#define CLIENT_SESSION_DEVICE_FILES_H_

namespace tenure {

// Lets go of the device files that this process inherited from the one that forked it.
//
// A forked child cannot use CUDA, yet what it inherits keeps its dead parent on the driver's
// process list and the parent's kernels running (seen: for as long as the child lived). Without the
// files the parent's death is its end (seen: pidfd after 73 ms, off the list 1 ms later, no write
// after that), and the child's exit handlers, libcuda's among them, run as they do otherwise
// (seen).
//
// Device files are those whose name begins with "nvidia"; the emulated driver names its own so,
// too. Their numbers go on to mean /dev/null, so that nothing that still knows one of them meets a
// stranger's file. A child that is to use NVML initialises it anew.
//
// Async-signal-safe: for a handler of pthread_atfork(3).
void ReleaseDeviceFiles();

}  // namespace tenure

#endif  // CLIENT_SESSION_DEVICE_FILES_H_

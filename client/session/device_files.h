// Closes inherited device files in a forked child.
#ifndef CLIENT_SESSION_DEVICE_FILES_H_
#define CLIENT_SESSION_DEVICE_FILES_H_

namespace tenure {

// Closes the driver's device files in a process that has inherited them from its parent.
//
// A forked child cannot use CUDA, but its copies of the device files have an effect. They keep the
// dead parent on the driver's process list, and the parent's kernels running, for as long as the
// child lives. Without them the parent's kernels end with the parent: tests/gpu/RESULTS.md has the
// times. The child's exit handlers, libcuda's among them, run as without this call.
//
// A device file is a character device whose name begins with "nvidia", and the file by which the
// emulated driver knows its processes. A user's own file of such a name stays as it is. Afterwards
// the descriptors refer to /dev/null. If they were closed, the next file that the child opens would
// get such a number, and a library that still uses the number would write there. A child that uses
// NVML has to initialise it again.
//
// Thread safety: async-signal-safe, as a handler of pthread_atfork(3) must be.
void ReleaseDeviceFiles();

}  // namespace tenure

#endif  // CLIENT_SESSION_DEVICE_FILES_H_

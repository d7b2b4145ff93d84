// The daemon's exit codes.
#ifndef SERVER_KEEPER_EXIT_CODE_H_
#define SERVER_KEEPER_EXIT_CODE_H_

namespace tenure::server {

// Scripts, units and the keeper rely on these. The numbers are those of sysexits.h.
enum ExitCode : int {
  kExitOk = 0,
  kExitUsage = 64,  // a flag, the config file or the environment is wrong
  // There is no driver or no such device, another daemon owns it, or MPS runs. A restart at once
  // would fail in the same way.
  kExitUnavailable = 69,
  kExitLost = 70,      // the driver failed while serving: start the daemon again
  kExitNoMemory = 71,  // the host gave no memory while serving: start the daemon again
  kExitNoSocket = 73,  // the socket cannot be had, or other users may write in its folder
  // As kExitUsage, while the supervisor keeps memory for this start: correct it, and the next start
  // finds the memory.
  kExitTryAgain = 75,
};

}  // namespace tenure::server

#endif  // SERVER_KEEPER_EXIT_CODE_H_

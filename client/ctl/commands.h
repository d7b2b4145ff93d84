// tenurectl's subcommands, one file each. Every one prints to stdout and returns the exit code.
#ifndef CLIENT_CTL_COMMANDS_H_
#define CLIENT_CTL_COMMANDS_H_

#include <cstdint>
#include <string>

#include "client/ctl/exit_code.h"

namespace tenure::ctl {

// What every subcommand is told.
struct CommonOptions {
  std::string socket;
  bool json = false;
};

ExitCode RunStatus(const CommonOptions& options);
ExitCode RunPs(const CommonOptions& options);
// `session_id` 0: all sessions that the caller may see.
ExitCode RunLs(const CommonOptions& options, uint64_t session_id);
// `id` is a session, an allocation or a process. NOT_FOUND: none of these.
ExitCode RunExplain(const CommonOptions& options, uint64_t id);
// What an operator does: root and the daemon's own user may.
ExitCode RunTrim(const CommonOptions& options);
ExitCode RunRevoke(const CommonOptions& options, uint64_t session_id);
ExitCode RunDrain(const CommonOptions& options);

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_COMMANDS_H_

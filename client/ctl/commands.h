// tenurectl's subcommands, one file each. Every one prints to stdout and returns the exit code.
#ifndef CLIENT_CTL_COMMANDS_H_
#define CLIENT_CTL_COMMANDS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client/ctl/exit_code.h"
#include "common/memory_kind.h"

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
// `what` is the number of a session, an allocation or a process, or a segment's name. NOT_FOUND:
// none of these.
ExitCode RunExplain(const CommonOptions& options, const std::string& what);
// What an operator does: root and the daemon's own user may.
ExitCode RunTrim(const CommonOptions& options);
ExitCode RunRevoke(const CommonOptions& options, uint64_t session_id);
ExitCode RunDrain(const CommonOptions& options);

// What the commands about one segment are told.
struct SegmentOptions {
  std::string name;
  // Whose it is; nullopt: the caller's own user's.
  std::optional<uint32_t> owner_uid;
  // publish: what to load, who may attach, and as which kind.
  std::string file;
  std::vector<uint32_t> allowed_uids;
  MemoryKind kind = MemoryKind::kVmmFd;
  // attach: read everything back.
  bool check = false;
  // unpublish: also while it is attached.
  bool force = false;
};

ExitCode RunSegments(const CommonOptions& options);
ExitCode RunPublish(const CommonOptions& options, const SegmentOptions& segment);
// kFailure: the contents are not what was published.
ExitCode RunAttach(const CommonOptions& options, const SegmentOptions& segment);
ExitCode RunUnpublish(const CommonOptions& options, const SegmentOptions& segment);

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_COMMANDS_H_

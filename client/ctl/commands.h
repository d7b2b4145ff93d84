// The subcommands of tenurectl. Each prints to stdout and returns the exit code.
#ifndef CLIENT_CTL_COMMANDS_H_
#define CLIENT_CTL_COMMANDS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client/ctl/exit_code.h"
#include "common/memory_kind.h"

namespace tenure::ctl {

// Options of every subcommand.
struct CommonOptions {
  std::string socket;
  bool json = false;
};

ExitCode RunStatus(const CommonOptions& options);
ExitCode RunPs(const CommonOptions& options);
// `session_id` 0: all sessions that the caller may see.
ExitCode RunLs(const CommonOptions& options, uint64_t session_id);
// `what` is the number of a session, an allocation or a process, or the name of a segment.
// kNotFound: the daemon lists none of these to the caller.
ExitCode RunExplain(const CommonOptions& options, const std::string& what);
// For operators: the daemon serves these to root and to its own user.
ExitCode RunTrim(const CommonOptions& options);
ExitCode RunRevoke(const CommonOptions& options, uint64_t session_id);
ExitCode RunDrain(const CommonOptions& options);

// Options of the commands about one segment.
struct SegmentOptions {
  std::string name;
  // The uid of its owner; nullopt: the caller's.
  std::optional<uint32_t> owner_uid;
  // For publish: the file to load, the users that may attach, and the kind of memory.
  std::string file;
  std::vector<uint32_t> allowed_uids;
  MemoryKind kind = MemoryKind::kVmmFd;
  // For attach: read everything back and compare it with the digest.
  bool check = false;
  // For unpublish: also while sessions are attached.
  bool force = false;
};

ExitCode RunSegments(const CommonOptions& options);
ExitCode RunPublish(const CommonOptions& options, const SegmentOptions& segment);
// kFailure: the contents are not those that were published.
ExitCode RunAttach(const CommonOptions& options, const SegmentOptions& segment);
ExitCode RunUnpublish(const CommonOptions& options, const SegmentOptions& segment);

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_COMMANDS_H_

#include <iostream>
#include <map>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include <CLI/CLI.hpp>

#include "client/ctl/commands.h"
#include "client/ctl/replay/replay_command.h"
#include "client/ctl/replay/replay_options.h"
#include "client/ctl/replay/replay_worker.h"
#include "client/ctl/replay/shared_live_bytes.h"
#include "common/socket_path.h"
#include "common/version.h"

namespace tenure::ctl {
namespace {

// The command line and, after parsing, the values that it set.
struct CommandLine {
  CLI::App app{"Inspects and administers tenured, the daemon that leases GPU memory.", "tenurectl"};
  CommonOptions common;
  uint64_t session_id = 0;
  std::string explained;
  uint64_t revoked_id = 0;
  ReplayOptions replay;
  SegmentOptions segment;
  double hold_seconds = 0;
  bool no_map = false;
  size_t worker = 0;
  int live_bytes_fd = -1;
  CLI::App* status = nullptr;
  CLI::App* ps = nullptr;
  CLI::App* ls = nullptr;
  CLI::App* explain = nullptr;
  CLI::App* trim = nullptr;
  CLI::App* revoke = nullptr;
  CLI::App* drain = nullptr;
  CLI::App* segments = nullptr;
  CLI::App* publish = nullptr;
  CLI::App* attach = nullptr;
  CLI::App* unpublish = nullptr;
  CLI::App* replay_command = nullptr;
  CLI::App* replay_worker = nullptr;
};

CLI::App* AddCommand(CommandLine& line, const std::string& name, const std::string& description) {
  CLI::App* command = line.app.add_subcommand(name, description);
  command->add_flag("--json", line.common.json,
                    "Print JSON: names as in the .proto, sizes in bytes");
  return command;
}

// The options that `replay` and its hidden `replay-worker` share.
void AddReplayOptions(CommandLine& line, CLI::App* command) {
  ReplayOptions& replay = line.replay;
  command->add_option("trace", replay.trace, "The recorded trace, gzipped or not")->required();
  command->add_option("--repeat", replay.repeat, "How many times each worker replays the trace")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  command
      ->add_option("--check-every", replay.check_every,
                   "Operations of a worker between two checks of the daemon's books")
      ->check(CLI::Range(1, 1'000'000'000))
      ->capture_default_str();
  command->add_flag("--no-map", line.no_map, "Do not map the memory: put load on the daemon only");
  command
      ->add_option(
          "--hold-at-end", line.hold_seconds,
          "Seconds to hold the blocks that the trace leaves allocated, before they are freed")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str();
}

// CLI11 alone would accept "-1" and convert it to 2^64 - 1.
std::string CheckId(const std::string& text) {
  uint64_t id = 0;
  return absl::SimpleAtoi(text, &id)
             ? ""
             : absl::StrCat("'", text,
                            "' is not an id; `tenurectl ps` and `tenurectl ls` show them");
}

void AddAdminCommands(CommandLine& line) {
  line.trim = AddCommand(line, "trim", "Return memory that no session leases to the driver");
  line.revoke = AddCommand(line, "revoke", "Kill the process of a session");
  line.revoke->add_option("session", line.revoked_id, "The session, as `ps` shows it")
      ->required()
      ->check(CheckId);
  line.drain =
      AddCommand(line, "drain", "Grant nothing new; the daemon ends after the last session");
}

CLI::App* AddSegmentCommand(CommandLine& line, const std::string& name,
                            const std::string& description) {
  CLI::App* command = AddCommand(line, name, description);
  command->add_option("name", line.segment.name, "The segment, as `segments` shows it")->required();
  return command;
}

void AddOwner(CommandLine& line, CLI::App* command) {
  command->add_option("--owner", line.segment.owner_uid,
                      "The uid of the segment's owner; yours by default");
}

void AddSegmentCommands(CommandLine& line) {
  line.segments =
      AddCommand(line, "segments", "List segments: named memory that many processes attach");
  line.publish = AddSegmentCommand(
      line, "publish", "Load a file into GPU memory, where it stays for others to attach");
  line.publish
      ->add_option("file", line.segment.file, "A .safetensors file, or any other as plain bytes")
      ->required();
  line.publish->add_option("--share", line.segment.allowed_uids,
                           "uids of other users that may attach it");
  const std::map<std::string, MemoryKind> kinds = {{"vmm", MemoryKind::kVmmFd},
                                                   {"ipc", MemoryKind::kCudaIpc}};
  line.publish
      ->add_option("--kind", line.segment.kind,
                   "vmm: mapped read-only where it is attached, and outlives the daemon under "
                   "--keeper or systemd; ipc: neither")
      ->transform(CLI::CheckedTransformer(kinds))
      ->default_str("vmm");
  line.attach = AddSegmentCommand(line, "attach", "Map a segment in this process, then detach it");
  line.attach->add_flag("--check", line.segment.check,
                        "Read it back and compare it with its digest");
  AddOwner(line, line.attach);
  line.unpublish = AddSegmentCommand(line, "unpublish", "End a segment");
  line.unpublish->add_flag(
      "--force", line.segment.force,
      "Also while it is attached: processes that have mapped it can still read it");
  AddOwner(line, line.unpublish);
}

void Describe(CommandLine& line) {
  line.app.set_version_flag("--version", std::string("tenurectl ") + kVersion);
  line.app.require_subcommand(1);
  // This allows --socket after the subcommand as well.
  line.app.fallthrough();
  // The default must be set before add_option: capture_default_str prints the value of this moment.
  line.common.socket = ConnectPath();
  line.app.add_option("--socket", line.common.socket, "The daemon's socket")
      ->envname("TENURE_SOCKET")
      ->capture_default_str();
  line.status =
      AddCommand(line, "status", "Show the device, its memory and how much of it is in use");
  line.ps = AddCommand(line, "ps", "List sessions, and dead ones whose memory is in quarantine");
  line.ls = AddCommand(line, "ls", "List allocations");
  line.ls->add_option("--session", line.session_id, "Only those of this session (0: all)")
      ->check(CheckId)
      ->capture_default_str();
  line.explain = AddCommand(line, "explain",
                            "Explain a session, an allocation, a process or a segment in words");
  line.explain
      ->add_option("what", line.explained,
                   "A number that `ps` or `ls` shows, or a name that `segments` shows")
      ->required();
  AddAdminCommands(line);
  AddSegmentCommands(line);

  line.replay_command = AddCommand(
      line, "replay", "Replay a recorded trace of allocations and check the daemon's books");
  AddReplayOptions(line, line.replay_command);
  line.replay_command
      ->add_option("--workers", line.replay.workers, "Processes that replay the trace at once")
      ->check(CLI::Range(size_t{1}, SharedLiveBytes::kMaxWorkers))
      ->capture_default_str();
  line.replay_command->add_flag("--allow-deaths", line.replay.allow_deaths,
                                "A killed worker does not make the replay fail");
  line.replay_worker = line.app.add_subcommand("replay-worker", "One worker of a replay");
  // An empty group hides the command from --help: only `replay` starts it.
  line.replay_worker->group("");
  AddReplayOptions(line, line.replay_worker);
  line.replay_worker->add_option("--worker", line.worker)->required();
  line.replay_worker->add_option("--live-bytes-fd", line.live_bytes_fd)->required();
}

ExitCode Run(CommandLine& line) {
  // `replay` and its workers have a struct of their own. The common options and the values that
  // need a conversion are copied into it.
  line.replay.socket = line.common.socket;
  line.replay.json = line.common.json;
  line.replay.map = !line.no_map;
  line.replay.hold_at_end = absl::Seconds(line.hold_seconds);
  if (line.status->parsed()) return RunStatus(line.common);
  if (line.ps->parsed()) return RunPs(line.common);
  if (line.ls->parsed()) return RunLs(line.common, line.session_id);
  if (line.explain->parsed()) return RunExplain(line.common, line.explained);
  if (line.trim->parsed()) return RunTrim(line.common);
  if (line.revoke->parsed()) return RunRevoke(line.common, line.revoked_id);
  if (line.drain->parsed()) return RunDrain(line.common);
  if (line.segments->parsed()) return RunSegments(line.common);
  if (line.publish->parsed()) return RunPublish(line.common, line.segment);
  if (line.attach->parsed()) return RunAttach(line.common, line.segment);
  if (line.unpublish->parsed()) return RunUnpublish(line.common, line.segment);
  if (line.replay_command->parsed()) return RunReplay(line.replay);
  return RunReplayWorker(line.replay, line.worker, line.live_bytes_fd);
}

}  // namespace
}  // namespace tenure::ctl

int main(int argc, char** argv) {
  tenure::ctl::CommandLine line;
  tenure::ctl::Describe(line);
  try {
    line.app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // CLI11 also reports --help and --version as errors, with exit code 0. Its own codes for
    // mistakes are above 100.
    return line.app.exit(error) == 0 ? tenure::ctl::kOk : tenure::ctl::kUsage;
  }
  return tenure::ctl::Run(line);
}

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include <CLI/CLI.hpp>

#include "client/ctl/commands.h"
#include "client/ctl/replay/replay_command.h"
#include "client/ctl/replay/replay_options.h"
#include "client/ctl/replay/replay_worker.h"
#include "client/ctl/replay/shared_live_bytes.h"
#include "client/ctl/text.h"
#include "common/socket_path.h"
#include "common/spelling.h"
#include "common/standard_files.h"
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
  std::string kind = "vmm";
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

// To be the transformation of each option that is a count.
CLI::Validator Decimal() { return CLI::Validator(&ReadDecimal, ""); }

// The options that `replay` and its hidden `replay-worker` share.
void AddReplayOptions(CommandLine& line, CLI::App* command) {
  ReplayOptions& replay = line.replay;
  command->add_option("trace", replay.trace, "The recorded trace, gzipped or not")->required();
  command->add_option("--repeat", replay.repeat, "How many times each worker replays the trace")
      ->transform(Decimal())
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  command
      ->add_option("--check-every", replay.check_every,
                   "Operations of a worker between two checks of the daemon's books")
      ->transform(Decimal())
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
std::string ReadId(std::string& text) {
  uint64_t id = 0;
  return ReadDecimal(text).empty() && absl::SimpleAtoi(text, &id)
             ? ""
             : absl::StrCat("'", Printable(text),
                            "' is not an id; `tenurectl ps` and `tenurectl ls` show them");
}

std::string CheckPath(const std::string& path) { return path.empty() ? "the path is empty" : ""; }

void AddAdminCommands(CommandLine& line) {
  line.trim = AddCommand(line, "trim", "Return memory that no session leases to the driver");
  line.revoke = AddCommand(line, "revoke", "Kill the process of a session");
  line.revoke->add_option("session", line.revoked_id, "The session, as `ps` shows it")
      ->required()
      ->transform(CLI::Validator(&ReadId, ""));
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
  command
      ->add_option("--owner", line.segment.owner_uid,
                   "The uid of the segment's owner; yours by default")
      ->transform(Decimal());
}

void AddSegmentCommands(CommandLine& line) {
  line.segments =
      AddCommand(line, "segments", "List segments: named memory that many processes attach");
  line.publish = AddSegmentCommand(
      line, "publish", "Load a file into GPU memory, where it stays for others to attach");
  line.publish
      ->add_option("file", line.segment.file,
                   "A .safetensors file, the .safetensors.index.json of several, or any other as "
                   "plain bytes")
      ->required();
  line.publish
      ->add_option("--share", line.segment.allowed_uids, "uids of other users that may attach it")
      ->transform(Decimal());
  line.publish
      ->add_option("--kind", line.kind,
                   "vmm: mapped read-only where it is attached, and outlives the daemon under "
                   "--keeper or systemd; ipc: neither")
      ->check(CLI::IsMember({"vmm", "ipc"}))
      ->capture_default_str();
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
      ->check(CheckPath)
      ->capture_default_str();
  // Handed on by the environment, which the workers of a replay inherit.
  line.app
      .add_option_function<uint32_t>(
          "--daemon-uid",
          [](uint32_t uid) { setenv("TENURE_DAEMON_UID", absl::StrCat(uid).c_str(), 1); },
          "The uid of the daemon's user, if it is neither root, nor you, nor the owner of the "
          "socket's "
          "folder")
      ->transform(Decimal());
  line.status =
      AddCommand(line, "status", "Show the device, its memory and how much of it is in use");
  line.ps = AddCommand(line, "ps", "List sessions, and dead ones whose memory is in quarantine");
  line.ls = AddCommand(line, "ls", "List allocations");
  line.ls->add_option("--session", line.session_id, "Only those of this session (0: all)")
      ->transform(CLI::Validator(&ReadId, ""))
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
      ->transform(Decimal())
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
  line.segment.kind = line.kind == "ipc" ? MemoryKind::kCudaIpc : MemoryKind::kVmmFd;
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

// After a mistake on the command line, or --help or --version, which CLI11 reports as errors, too.
int EndOfParsing(CommandLine& line, const CLI::ParseError& error) {
  // CLI11 says that a command is missing, and for --help it says nothing of the unknown word.
  const std::vector<std::string> unknown = line.app.remaining();
  if (line.app.get_subcommands().empty() && !unknown.empty()) {
    std::vector<std::string> known;
    for (const CLI::App* command : line.app.get_subcommands(nullptr)) {
      if (!command->get_group().empty()) known.push_back(command->get_name());
    }
    const std::string nearest = NearestWord(unknown.front(), known);
    std::cerr << "tenurectl: no command '" << Printable(unknown.front()) << "'"
              << (nearest.empty() ? "" : absl::StrCat("; did you mean '", nearest, "'?"))
              << "\n`tenurectl --help` lists the commands\n";
    return kUsage;
  }
  // Its own codes for mistakes are above 100.
  return line.app.exit(error) == 0 ? kOk : kUsage;
}

// What was printed must have been written, for a script goes by the exit code.
int CheckOutput(int exit_code) {
  if (std::cout.flush() && std::fflush(stdout) == 0) return exit_code;
  std::fprintf(stderr, "tenurectl: cannot write to standard output: %s\n", std::strerror(errno));
  return exit_code == kOk ? kFailure : exit_code;
}

}  // namespace
}  // namespace tenure::ctl

TENURE_OPEN_STANDARD_FILES_FIRST;

int main(int argc, char** argv) {
  tenure::ctl::CommandLine line;
  tenure::ctl::Describe(line);
  try {
    line.app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return tenure::ctl::CheckOutput(tenure::ctl::EndOfParsing(line, error));
  }
  return tenure::ctl::CheckOutput(tenure::ctl::Run(line));
}

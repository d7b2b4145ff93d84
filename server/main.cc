// tenured: reads the flags, opens the device, and serves until a signal, a failure or a drain ends
// it. With --keeper it runs the daemon as a child instead.

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include <spdlog/spdlog.h>
#include <systemd/sd-daemon.h>

#include "common/bytes.h"
#include "common/clock.h"
#include "common/cuda/device.h"
#include "common/cuda/driver.h"
#include "common/cuda/driver_path.h"
#include "common/cuda/mps.h"
#include "common/standard_files.h"
#include "server/config.h"
#include "server/daemon.h"
#include "server/instance_lock.h"
#include "server/keeper/fd_store.h"
#include "server/keeper/keeper.h"
#include "server/keeper/signals.h"
#include "server/keeper/unfinished_starts.h"
#include "server/report/log.h"
#include "server/transport/runtime_folder.h"

namespace tenure::server {
namespace {

// How often the main thread checks the device's health and does the daemon's maintenance.
constexpr timespec kHealthInterval = {0, 100'000'000};

int Fail(const absl::Status& status, ExitCode code) {
  spdlog::error("{}", std::string(status.message()));
  return code;
}

ExitCode CodeFor(const absl::Status& status) {
  if (absl::IsAlreadyExists(status)) return kExitNoSocket;
  if (absl::IsInternal(status)) return kExitLost;
  if (absl::IsInvalidArgument(status)) return kExitUsage;
  return kExitUnavailable;
}

// What the supervisor has passed on to this start. Read before FdStore::FromEnvironment takes it.
struct Inherited {
  bool memory = false;
};

Inherited ReadInherited() {
  const char* const names = std::getenv("LISTEN_FDNAMES");
  const char* const pid = std::getenv("LISTEN_PID");
  return {names != nullptr && absl::string_view(names) != FdStore::kClaim && pid != nullptr &&
          absl::string_view(pid) == std::to_string(getpid())};
}

// The exit code of a start that failed. A supervisor must not take a wrong flag for the end of its
// service while it keeps memory: then the next start is tried, and finds the memory.
int CodeOfStart(int code, const Inherited& inherited) {
  return code == kExitUsage && inherited.memory ? kExitTryAgain : code;
}

// The starts that systemd makes one after another. The keeper makes its pauses longer by itself.
UnfinishedStarts StartsOfTheUnit() {
  const char* const folder = std::getenv("RUNTIME_DIRECTORY");
  const bool of_systemd =
      std::getenv("NOTIFY_SOCKET") != nullptr && std::getenv("TENURE_KEEPER") == nullptr;
  return UnfinishedStarts(of_systemd && folder != nullptr ? folder : "");
}

// Blocks the signals that would end the daemon in this thread and in all that it starts, so that
// only sigtimedwait below takes them.
sigset_t BlockSignals() {
  const sigset_t signals = HandledSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

// Called when the host is out of memory, perhaps in the middle of a change. No code could be relied
// on to undo the change, but the driver frees the device's memory with the process. So it ends,
// with nothing but system calls.
[[noreturn]] void EndWithoutMemory() {
  WriteToStderr("tenured: the host has no memory left; ending\n");
  _exit(kExitNoMemory);
}

// Under MPS all clients share one context: the exit of one proves nothing about its kernels, and a
// fault of one ends all.
absl::Status CheckMps(bool allowed) {
  const std::optional<std::string> mps = cuda::FindMps();
  if (!mps) return absl::OkStatus();
  if (allowed) {
    spdlog::warn(
        "an MPS control daemon listens in {}: a fault of one client ends all of them, and the "
        "regions of dead ones go back to the driver instead of being used again",
        *mps);
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "an MPS control daemon listens in ", *mps,
      ": under MPS all clients share one context, so the death of one proves nothing and its fault "
      "ends all of them; stop it with `echo quit | nvidia-cuda-mps-control`, or allow it with "
      "--allow-mps"));
}

// Reads the command line and the config file again, of which the level of the log can change while
// the daemon serves.
void ReadConfigAgain(int argc, const char* const* argv) {
  const ParsedConfig parsed = ParseConfig(argc, argv);
  if (!parsed.config) {
    spdlog::error(
        "on SIGHUP the configuration is wrong, and the daemon goes on with the former: {}",
        parsed.text);
    return;
  }
  SetLogLevel(parsed.config->log_level);
  spdlog::info(
      "on SIGHUP read the configuration again: --log-level is {}; other flags change with "
      "a restart",
      parsed.config->log_level);
}

// Returns when a signal asks for the end, the device failed, or the last session has ended while
// draining.
absl::Status Serve(Daemon& daemon, DeviceClaim& claim, const sigset_t& signals, int argc,
                   const char* const* argv) {
  while (true) {
    const int signal = sigtimedwait(&signals, nullptr, &kHealthInterval);
    if (signal > 0) {
      switch (MeaningOf(signal)) {
        case SignalMeaning::kEnd:
          spdlog::info("stopping on {}", SignalName(signal));
          return absl::OkStatus();
        case SignalMeaning::kReload:
          ReadConfigAgain(argc, argv);
          break;
        case SignalMeaning::kNothing:
          spdlog::warn("{} has no meaning here and is ignored", SignalName(signal));
          break;
      }
    }
    if (absl::Status healthy = daemon.health().Check(); !healthy.ok()) return healthy;
    daemon.Maintain();
    claim.Maintain();
    if (daemon.drained()) {
      spdlog::info("drained: the last session has ended");
      return absl::OkStatus();
    }
  }
}

// The rest of --check-config: whether the sizes fit the device, if it is here. The size of an
// emulated one is a flag, and was checked with the others.
int CheckOnDevice(const Config& config) {
  // Loading the driver connects to MPS.
  if (config.driver == "emulated" || cuda::FindMps()) return kExitOk;
  const absl::StatusOr<std::string> path = cuda::ResolveDriver(config.driver);
  if (!path.ok()) return kExitOk;
  const absl::StatusOr<std::unique_ptr<cuda::Driver>> driver = cuda::Driver::Load(*path);
  if (!driver.ok()) return kExitOk;
  const absl::StatusOr<cuda::DeviceIdentity> device = cuda::Identify(**driver, config.device);
  const absl::Status fits =
      device.ok() ? ResolveSizes(config, device->total).status() : device.status();
  if (fits.ok()) return kExitOk;
  WriteToStderr(absl::StrCat("tenured: ", fits.message(), "\n"));
  return CodeFor(fits);
}

int Run(const Config& config, const Inherited& inherited, const UnfinishedStarts& starts, int argc,
        const char* const* argv) {
  const sigset_t signals = BlockSignals();
  const absl::StatusOr<std::unique_ptr<FdStore>> store =
      FdStore::FromEnvironment(config.fd_store_max.value_or(0));
  if (!store.ok()) return Fail(store.status(), kExitUsage);
  std::set_new_handler(EndWithoutMemory);
  // The emulated driver reads the size of its card from the environment when the card is created.
  setenv("TENURE_EMULATED_MEMORY", config.emulated_memory.c_str(), /*overwrite=*/1);
  // Before the driver is loaded, because loading it connects to MPS.
  if (absl::Status mps = CheckMps(config.allow_mps); !mps.ok()) {
    return Fail(mps, kExitUnavailable);
  }
  const absl::StatusOr<std::string> path = cuda::ResolveDriver(config.driver);
  if (!path.ok()) return Fail(path.status(), CodeFor(path.status()));
  const absl::StatusOr<std::unique_ptr<cuda::Driver>> driver = cuda::Driver::Load(*path);
  if (!driver.ok()) return Fail(driver.status(), kExitUnavailable);
  const absl::StatusOr<cuda::DeviceIdentity> device = cuda::Identify(**driver, config.device);
  if (!device.ok()) return Fail(device.status(), CodeFor(device.status()));
  const SystemClock clock;
  if (SocketPath(config, device->ordinal).empty()) {
    return Fail(absl::InvalidArgumentError("$XDG_RUNTIME_DIR is not set, so there is no folder for "
                                           "this user's sockets; choose one with --socket"),
                kExitUsage);
  }
  const absl::StatusOr<std::string> folder = MakeRuntimeFolder(SocketPath(config, device->ordinal));
  if (!folder.ok()) return Fail(folder.status(), kExitNoSocket);
  absl::StatusOr<DeviceClaim> claim = DeviceClaim::Take(*folder, device->uuid, **store, clock);
  if (!claim.ok()) return Fail(claim.status(), kExitUnavailable);

  absl::StatusOr<std::unique_ptr<Daemon>> daemon =
      Daemon::Start(config, **driver, *device, **store, *claim);
  if (!daemon.ok()) {
    const int code = Fail(daemon.status(), CodeFor(daemon.status()));
    // Parts of the daemon may run, and their destruction would give up what is kept.
    if ((*store)->available()) _exit(CodeOfStart(code, inherited));
    return code;
  }
  spdlog::info("serving {} ({}, {}, {} driver {}) on {}", device->uuid, device->name,
               FormatBytes(device->total), (*driver)->emulated() ? "emulated" : "CUDA",
               (*driver)->version(), (*daemon)->socket_path());
  if (!(*daemon)->has_process_list()) {
    spdlog::warn(
        "the driver's process list cannot be read or does not name this process, so a dead client "
        "cannot be proven gone: its regions go back to the driver instead of being used again");
  }
  sd_notify(0, "READY=1");
  starts.Served();
  (*daemon)->StartSupervisorReport();
  const absl::Status end = Serve(**daemon, *claim, signals, argc, argv);
  sd_notify(0, "STOPPING=1");
  const int exit_code = end.ok() ? kExitOk : Fail(end, kExitLost);
  if ((*daemon)->survives()) {
    const bool last_life = exit_code == kExitOk && (*store)->ends_with_exit_0();
    (*daemon)->StopForRestart(last_life);
    if (last_life) claim->RemoveFile();
    // Not through the destructor, which would end all sessions and free all memory.
    _exit(exit_code);
  }
  daemon->reset();
  return exit_code;
}

}  // namespace
}  // namespace tenure::server

TENURE_OPEN_STANDARD_FILES_FIRST;

int main(int argc, char** argv) {
  using tenure::server::ParseConfig;
  // A write to a client that has hung up, or to a log that nobody reads any more, then fails with
  // EPIPE instead of ending the process.
  signal(SIGPIPE, SIG_IGN);
  const tenure::server::Inherited inherited = tenure::server::ReadInherited();
  const tenure::server::UnfinishedStarts starts = tenure::server::StartsOfTheUnit();
  // Before the configuration is read, so that the one that is corrected meanwhile counts.
  absl::SleepFor(starts.Begin());
  const tenure::server::ParsedConfig parsed = ParseConfig(argc, argv);
  if (!parsed.config) {
    if (parsed.exit_code == tenure::server::kExitOk) {
      std::fputs(parsed.text.c_str(), stdout);
    } else {
      tenure::WriteToStderr(parsed.text);
    }
    return tenure::server::CodeOfStart(parsed.exit_code, inherited);
  }
  if (parsed.config->check_config) return tenure::server::CheckOnDevice(*parsed.config);
  tenure::server::StartLog(parsed.config->log_level);
  if (parsed.config->keeper) {
    starts.Served();
    return tenure::server::RunKeeper(
        {.max_fds = parsed.config->fd_store_max.value_or(tenure::server::KeeperOptions().max_fds)},
        argc, argv);
  }
  return tenure::server::CodeOfStart(
      tenure::server::Run(*parsed.config, inherited, starts, argc, argv), inherited);
}

// tenured: reads the flags, opens the device, and serves until a signal, a failure or a drain ends
// it. With --keeper it runs the daemon as a child instead.

#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <systemd/sd-daemon.h>

#include "common/bytes.h"
#include "common/cuda/device.h"
#include "common/cuda/driver.h"
#include "common/cuda/driver_path.h"
#include "common/cuda/mps.h"
#include "server/config.h"
#include "server/daemon.h"
#include "server/instance_lock.h"
#include "server/keeper/fd_store.h"
#include "server/keeper/keeper.h"

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
  if (absl::IsInvalidArgument(status)) return kExitUsage;
  return kExitUnavailable;
}

// Blocks the signals that end the daemon in this thread and in all that it starts, so that only
// sigtimedwait below takes them.
sigset_t BlockEndSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  // A write to a client that has hung up then fails with EPIPE instead of ending the process.
  signal(SIGPIPE, SIG_IGN);
  return signals;
}

// Called when the host is out of memory, perhaps in the middle of a change. No code could be relied
// on to undo the change, but the driver frees the device's memory with the process. So it ends,
// with nothing but system calls.
[[noreturn]] void EndWithoutMemory() {
  constexpr char kWords[] = "tenured: the host has no memory left; ending\n";
  static_cast<void>(!write(STDERR_FILENO, kWords, sizeof kWords - 1));
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

// Returns when a signal asks for the end, the device failed, or the last session has ended while
// draining.
absl::Status Serve(Daemon& daemon, const sigset_t& signals) {
  while (true) {
    const int signal = sigtimedwait(&signals, nullptr, &kHealthInterval);
    if (signal > 0) {
      spdlog::info("stopping on signal {}", signal);
      return absl::OkStatus();
    }
    if (absl::Status healthy = daemon.health().Check(); !healthy.ok()) return healthy;
    daemon.Maintain();
    if (daemon.drained()) {
      spdlog::info("drained: the last session has ended");
      return absl::OkStatus();
    }
  }
}

int Run(const Config& config) {
  const absl::StatusOr<std::unique_ptr<FdStore>> store =
      FdStore::FromEnvironment(config.fd_store_max.value_or(0));
  if (!store.ok()) return Fail(store.status(), kExitUsage);
  const sigset_t signals = BlockEndSignals();
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
  const absl::StatusOr<UniqueFd> claim = ClaimDevice(device->uuid);
  if (!claim.ok()) return Fail(claim.status(), kExitUnavailable);

  absl::StatusOr<std::unique_ptr<Daemon>> daemon =
      Daemon::Start(config, **driver, *device, **store);
  if (!daemon.ok()) return Fail(daemon.status(), CodeFor(daemon.status()));
  spdlog::info("serving {} ({}, {}, {} driver {}) on {}", device->uuid, device->name,
               FormatBytes(device->total), (*driver)->emulated() ? "emulated" : "CUDA",
               (*driver)->version(), (*daemon)->socket_path());
  if ((*daemon)->http_port() >= 0) spdlog::info("metrics on port {}", (*daemon)->http_port());
  if (!(*daemon)->has_process_list()) {
    spdlog::warn(
        "the driver's process list cannot be read or does not name this process, so a dead client "
        "cannot be proven gone: its regions go back to the driver instead of being used again");
  }
  sd_notify(0, "READY=1");
  const absl::Status end = Serve(**daemon, signals);
  sd_notify(0, "STOPPING=1");
  const int exit_code = end.ok() ? kExitOk : Fail(end, kExitLost);
  if ((*daemon)->survives()) (*daemon)->ExitForRestart(exit_code);
  daemon->reset();
  return exit_code;
}

}  // namespace
}  // namespace tenure::server

int main(int argc, char** argv) {
  using tenure::server::ParseConfig;
  const tenure::server::ParsedConfig parsed = ParseConfig(argc, argv);
  if (!parsed.config) return parsed.exit_code;
  spdlog::set_default_logger(spdlog::stderr_logger_mt("tenured"));
  spdlog::set_level(spdlog::level::from_str(parsed.config->log_level));
  if (parsed.config->check_config) return parsed.exit_code;
  if (parsed.config->keeper) {
    return tenure::server::RunKeeper(
        {.max_fds = parsed.config->fd_store_max.value_or(tenure::server::KeeperOptions().max_fds)},
        argc, argv);
  }
  return tenure::server::Run(*parsed.config);
}

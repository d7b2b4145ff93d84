#include "client/session/session.h"

#include <errno.h>

#include <string>
#include <utility>

#include "client/session/fork_guard.h"
#include "common/cuda/driver.h"
#include "common/cuda/driver_path.h"
#include "common/limits.h"
#include "common/socket_path.h"
#include "common/status_macros.h"
#include "common/utf8.h"

namespace tenure {
namespace {

// A program's exit waits for this. If the daemon does not answer in time, it ends the session when
// the process ends.
constexpr absl::Duration kCloseTimeout = absl::Seconds(1);

// `of_daemon` is the driver that the daemon uses.
absl::StatusOr<std::unique_ptr<cuda::Driver>> LoadDriver(const std::string& wanted,
                                                         const std::string& of_daemon) {
  TENURE_ASSIGN_OR_RETURN(const std::string path, wanted.empty()
                                                      ? cuda::ResolveClientDriver(of_daemon)
                                                      : cuda::ResolveDriver(wanted));
  return cuda::Driver::Load(path);
}

}  // namespace

std::string DefaultSessionName(absl::string_view program) {
  std::string name = Printable(program);
  if (name.size() <= kMaxSessionName) return name;
  // Not in the middle of a character.
  size_t end = kMaxSessionName;
  while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xc0) == 0x80) --end;
  name.resize(end);
  return name;
}

Session::Session(std::unique_ptr<SessionStub> stub, const ConnectOptions& options,
                 std::string socket)
    : stub_(std::move(stub)),
      memory_kind_(options.memory_kind),
      socket_(std::move(socket)),
      on_restart_(options.on_restart) {}

absl::StatusOr<std::shared_ptr<Session>> Session::Open(const ConnectOptions& options) {
  const std::string socket = options.socket.empty() ? ConnectPath() : options.socket;
  const std::string name =
      options.name.empty() ? DefaultSessionName(program_invocation_short_name) : options.name;
  TENURE_ASSIGN_OR_RETURN(std::unique_ptr<SessionStub> stub,
                          SessionStub::Open({.socket = socket,
                                             .name = name,
                                             .call_timeout = options.call_timeout,
                                             .daemon_uid = options.daemon_uid,
                                             .restart_window = options.restart_window}));
  // A forked child leaks its copy of the session. The destructors of gRPC and CUDA would wait for
  // threads that exist in the parent only, and Upkeep's would join one.
  const auto end = [](Session* session) {
    if (!session->InForkedChild()) delete session;
  };
  std::shared_ptr<Session> session(new Session(std::move(stub), options, socket), end);
  if (options.map) TENURE_RETURN_IF_ERROR(session->OpenDevice(options));
  // The device and the caches must exist before the upkeep, which uses them on its own thread.
  session->upkeep_ =
      std::make_unique<Upkeep>(*session->stub_, session->regions_.get(), options.on_lost,
                               [raw = session.get()] { raw->OnRestart(); });
  session->WatchDaemon();
  return session;
}

absl::Status Session::OpenDevice(const ConnectOptions& options) {
  const v1::OpenSessionResponse& opened = stub_->session();
  TENURE_ASSIGN_OR_RETURN(std::unique_ptr<cuda::Driver> driver,
                          LoadDriver(options.driver, opened.driver()));
  TENURE_ASSIGN_OR_RETURN(std::unique_ptr<cuda::Device> device,
                          cuda::Device::Open(*driver, opened.device_uuid()));
  // From here on this process has device files open, which a forked child would keep open.
  ReleaseDeviceFilesInChildren();
  driver_ = std::move(driver);
  device_ = std::move(device);
  regions_ = std::make_unique<RegionCache>(*device_);
  segment_regions_ = std::make_unique<RegionCache>(*device_);
  return absl::OkStatus();
}

// REQUIRES: the session has been opened, or restored, before. If yet another daemon listens by now,
// the watch is on a daemon that does not know the session, and the next keep-alive finds that out.
// If the watch began before the session, it would report the exit of an earlier daemon, and a
// session that is alive would be marked as lost.
void Session::WatchDaemon() {
  absl::MutexLock lock(&watch_mutex_);
  // The destructor has removed the watch. A new one would outlive the upkeep, which it uses.
  if (closing_) return;
  daemon_watch_ = DaemonWatch::Start(socket_, [stub = stub_.get(), upkeep = upkeep_.get()] {
    stub->OnDaemonExit();
    upkeep->RenewNow();
  });
}

void Session::OnRestart() {
  // The daemon's memory of kind CUDA_IPC ended with its process. Blocks granted before carry an
  // older number of restarts, and are not counted again when they are freed.
  ++restarts_;
  const uint64_t lost_blocks = ipc_blocks_.exchange(0);
  // The old watch has reported the exit of the old process, and watches nothing any more.
  WatchDaemon();
  if (on_restart_) on_restart_(lost_blocks);
}

Session::~Session() {
  // Calls are cancelled first, so that the threads below do not wait for a daemon that does not
  // answer.
  stub_->CancelCalls();
  std::unique_ptr<DaemonWatch> watch;
  {
    absl::MutexLock lock(&watch_mutex_);
    closing_ = true;
    watch = std::move(daemon_watch_);
  }
  // Outside of the lock, because this joins the watch's thread. Before the upkeep is destroyed,
  // because that thread uses it.
  watch.reset();
  upkeep_.reset();
  // The upkeep is the only other user of the caches. All regions must be unmapped before Close:
  // with it the daemon may give them to others.
  regions_.reset();
  segment_regions_.reset();
  if (stub_->Usable().ok()) stub_->Close(kCloseTimeout).IgnoreError();
}

absl::Status Session::RenewIfUnknown(const absl::Status& answer) {
  if (absl::IsNotFound(answer) || absl::IsAborted(answer)) upkeep_->RenewNow();
  return answer;
}

}  // namespace tenure

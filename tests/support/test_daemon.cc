#include "tests/support/test_daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <spawn.h>

#include "common/check.h"

extern char** environ;

namespace tenure::testing {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::seconds kDeadline{20};
constexpr std::chrono::seconds kExitDeadline{30};
// The pause between two checks of a condition: short compared with what is waited for, long
// compared with the check.
constexpr std::chrono::milliseconds kPause{2};

std::string MakeFolder() {
  std::string folder = (std::filesystem::temp_directory_path() / "tenure-test-XXXXXX").string();
  TENURE_CHECK(mkdtemp(folder.data()) != nullptr);
  return folder;
}

// Receives the messages of sd_notify: the daemon reports with READY=1 that it serves.
class NotifySocket {
 public:
  explicit NotifySocket(const std::string& path)
      : path_(path), fd_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    TENURE_CHECK(path.size() < sizeof address.sun_path);
    std::memcpy(address.sun_path, path.data(), path.size());
    TENURE_CHECK(bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  }
  ~NotifySocket() {
    close(fd_);
    unlink(path_.c_str());
  }

  // Whether READY=1 arrived before the child ended or the time ran out.
  bool WaitForReady(pid_t child) {
    const auto end = steady_clock::now() + kDeadline;
    while (steady_clock::now() < end) {
      pollfd entry = {fd_, POLLIN, 0};
      if (poll(&entry, 1, 20) == 1) {
        std::array<char, 512> text = {};
        const ssize_t length = recv(fd_, text.data(), text.size() - 1, 0);
        if (length > 0 && std::strstr(text.data(), "READY=1") != nullptr) return true;
      }
      siginfo_t info = {};
      if (waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
          info.si_pid == child) {
        return false;
      }
    }
    return false;
  }

 private:
  const std::string path_;
  const int fd_;
};

std::string DriverName() {
  const char* driver = std::getenv("TENURE_DRIVER");
  return driver == nullptr || *driver == 0 ? "emulated" : driver;
}

std::shared_ptr<grpc::Channel> ChannelTo(const std::string& socket) {
  grpc::ChannelArguments arguments;
  // Otherwise the channels of one process share connections, and a test could not know which one it
  // uses.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel("unix:" + socket, grpc::InsecureChannelCredentials(), arguments);
}

// All daemons of one test process manage the same private emulated card. Its files are removed when
// the process ends.
void UsePrivateCard() {
  if (std::getenv("TENURE_EMULATED_DIR") != nullptr) return;
  static const std::string folder = [] {
    const std::filesystem::path memory = "/dev/shm";
    const std::filesystem::path base =
        std::filesystem::is_directory(memory) ? memory : std::filesystem::temp_directory_path();
    std::string name = (base / "tenure-test-XXXXXX").string();
    TENURE_CHECK(mkdtemp(name.data()) != nullptr);
    std::atexit([] {
      std::error_code ignored;
      std::filesystem::remove_all(std::getenv("TENURE_EMULATED_DIR"), ignored);
    });
    return name;
  }();
  setenv("TENURE_EMULATED_DIR", folder.c_str(), 0);
}

}  // namespace

std::string ProgramFolder() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path().string();
}

bool OnRealDevice() { return DriverName() != "emulated"; }

pid_t StartProgram(const std::vector<std::string>& command,
                   const std::vector<std::string>& environment) {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  std::vector<char*> variables;
  for (const std::string& variable : environment)
    variables.push_back(const_cast<char*>(variable.c_str()));
  for (char** variable = environ; *variable != nullptr; ++variable) variables.push_back(*variable);
  variables.push_back(nullptr);
  pid_t pid = -1;
  TENURE_CHECK(
      posix_spawnp(&pid, arguments[0], nullptr, nullptr, arguments.data(), variables.data()) == 0);
  return pid;
}

int WaitForExit(pid_t pid) {
  const auto end = steady_clock::now() + kExitDeadline;
  int status = 0;
  while (waitpid(pid, &status, WNOHANG) != pid) {
    if (steady_clock::now() > end) {
      kill(pid, SIGKILL);
      waitpid(pid, &status, 0);
      break;
    }
    std::this_thread::sleep_for(kPause);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool WaitUntilOrDeadline(bool (*step)(void*), void* state) {
  const auto end = steady_clock::now() + kDeadline;
  while (!step(state)) {
    if (steady_clock::now() > end) return false;
    std::this_thread::sleep_for(kPause);
  }
  return true;
}

TestDaemon::TestDaemon(Options options) : folder_(MakeFolder()) {
  UsePrivateCard();
  command_ = options.wrapper;
  for (const std::string& word :
       {ProgramFolder() + "/tenured", std::string("--driver"), DriverName(),
        std::string("--emulated-memory"), options.memory, std::string("--socket"), socket()}) {
    command_.push_back(word);
  }
  command_.insert(command_.end(), options.flags.begin(), options.flags.end());
  const auto set_unless_given = [&](const std::string& flag, const std::string& value) {
    const std::vector<std::string>& given = options.flags;
    if (std::find(given.begin(), given.end(), flag) == given.end()) {
      command_.insert(command_.end(), {flag, value});
    }
  };
  set_unless_given("--http", "off");
  // A configuration that is given may name the level.
  if (std::find(options.flags.begin(), options.flags.end(), "--config") == options.flags.end()) {
    set_unless_given("--log-level", "warn");
  }
  NotifySocket notify(folder_ + "/notify");
  std::vector<std::string> environment = options.environment;
  environment.push_back("NOTIFY_SOCKET=" + folder_ + "/notify");
  pid_ = StartProgram(command_, environment);
  TENURE_CHECK(notify.WaitForReady(pid_));
  Reconnect();
}

void TestDaemon::Reconnect() {
  allocator_ = v1::Allocator::NewStub(NewChannel());
  stats_ = v1::Stats::NewStub(NewChannel());
}

TestDaemon::~TestDaemon() {
  if (pid_ > 0) Stop();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

std::optional<int> TestDaemon::EndedWith() {
  if (pid_ <= 0) return ended_with_;
  siginfo_t info = {};
  const bool ended =
      waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
      info.si_pid == pid_;
  if (ended) ended_with_ = WaitForEnd();
  return ended_with_;
}

int TestDaemon::Stop() {
  TENURE_CHECK(pid_ > 0);
  kill(pid_, SIGTERM);
  return WaitForEnd();
}

int TestDaemon::WaitForEnd() {
  const int code = WaitForExit(pid_);
  pid_ = -1;
  return code;
}

std::shared_ptr<grpc::Channel> TestDaemon::NewChannel() const { return ChannelTo(socket()); }

std::optional<v1::GetStatsResponse> TestDaemon::TryGetStats() {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kDeadline);
  v1::GetStatsResponse response;
  if (!stats_->GetStats(&context, {}, &response).ok()) return std::nullopt;
  return response;
}

v1::GetStatsResponse TestDaemon::GetStats() {
  const std::optional<v1::GetStatsResponse> response = TryGetStats();
  TENURE_CHECK(response);
  return *response;
}

v1::ListSessionsResponse TestDaemon::ListSessions() {
  grpc::ClientContext context;
  v1::ListSessionsResponse response;
  TENURE_CHECK(stats_->ListSessions(&context, {}, &response).ok());
  return response;
}

std::vector<v1::Allocation> TestDaemon::ListAllocations() {
  std::vector<v1::Allocation> all;
  v1::ListAllocationsRequest request;
  do {
    grpc::ClientContext context;
    v1::ListAllocationsResponse response;
    TENURE_CHECK(stats_->ListAllocations(&context, request, &response).ok());
    all.insert(all.end(), response.allocations().begin(), response.allocations().end());
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return all;
}

}  // namespace tenure::testing

#include "tests/driver_contract/peer.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <cstdio>
#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include <spawn.h>

#include "common/check.h"
#include "tests/driver_contract/descriptor_passing.h"

namespace tenure::testing {
namespace {

constexpr int kDeadlineMs = 20'000;
// The numbers under which the peer finds its ends of the pipes. Any above stderr would do.
constexpr int kCommandsFd = 3;
constexpr int kLifelineFd = 4;

std::string PeerProgram() {
  std::array<char, PATH_MAX> self = {};
  TENURE_CHECK(readlink("/proc/self/exe", self.data(), self.size() - 1) > 0);
  const std::string path(self.data());
  return path.substr(0, path.rfind('/')) + "/driver_contract_peer";
}

[[noreturn]] void Fail(pid_t pid, const std::string& what) {
  std::fprintf(stderr, "driver_contract_peer %d: %s\n", pid, what.c_str());
  std::abort();
}

}  // namespace

Peer::Peer(const std::string& driver, uid_t user, bool with_context) {
  Start(driver);
  if (user != 0) {
    Send(absl::StrCat("become-user ", user));
    if (Receive() != "ok") {
      failure_ = "the test may not become another user";
      return;
    }
  }
  if (!with_context) return;
  Send("context");
  const std::string answer = Receive();
  if (answer != "ok") failure_ = answer;
  if (user == 0 && !failure_.empty()) Fail(pid_, failure_);
}

Peer::~Peer() {
  EndChildren();
  if (pid_ > 0) Kill();
  if (commands_ >= 0) close(commands_);
}

void Peer::Start(const std::string& driver) {
  int commands[2] = {};
  int lifeline[2] = {};
  TENURE_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, commands) == 0);
  TENURE_CHECK(pipe2(lifeline, O_CLOEXEC) == 0);
  // Moved to other numbers than those that the peer expects: a dup2(2) of a descriptor onto itself
  // would keep close-on-exec.
  const int peer_commands = fcntl(commands[1], F_DUPFD_CLOEXEC, kLifelineFd + 1);
  const int peer_lifeline = fcntl(lifeline[0], F_DUPFD_CLOEXEC, kLifelineFd + 1);
  posix_spawn_file_actions_t actions;
  TENURE_CHECK(posix_spawn_file_actions_init(&actions) == 0);
  posix_spawn_file_actions_adddup2(&actions, peer_commands, kCommandsFd);
  posix_spawn_file_actions_adddup2(&actions, peer_lifeline, kLifelineFd);
  std::string program = PeerProgram();
  std::string path = driver;
  std::string commands_fd = absl::StrCat(kCommandsFd);
  std::string lifeline_fd = absl::StrCat(kLifelineFd);
  char* arguments[] = {program.data(), path.data(), commands_fd.data(), lifeline_fd.data(),
                       nullptr};
  const int result = posix_spawn(&pid_, program.c_str(), &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  for (const int fd : {commands[1], lifeline[0], peer_commands, peer_lifeline}) close(fd);
  if (result != 0) Fail(0, absl::StrCat("cannot start ", program));
  commands_ = commands[0];
  lifeline_ = lifeline[1];
}

void Peer::Send(const std::string& request, int descriptor) {
  if (!SendWithDescriptor(commands_, request + "\n", descriptor)) {
    Fail(pid_, "cannot be asked: " + request);
  }
}

std::string Peer::Receive() {
  size_t end = received_.find('\n');
  while (end == std::string::npos) {
    pollfd poller = {commands_, POLLIN, 0};
    if (poll(&poller, 1, kDeadlineMs) != 1) Fail(pid_, "does not answer");
    if (!ReceiveWithDescriptor(commands_, &received_, &descriptor_)) Fail(pid_, "died");
    end = received_.find('\n');
  }
  const std::string line = received_.substr(0, end);
  received_.erase(0, end + 1);
  return line;
}

PeerAnswer Peer::Ask(const std::string& request) { return AskWith(-1, request); }

PeerAnswer Peer::AskWith(int descriptor, const std::string& request) {
  Send(request, descriptor);
  const std::string answer = Receive();
  if (answer == "ok") return {};
  if (absl::StartsWith(answer, "ok ")) return {CUDA_SUCCESS, answer.substr(3)};
  int error = 0;
  if (!absl::StartsWith(answer, "error ") || !absl::SimpleAtoi(answer.substr(6), &error)) {
    Fail(pid_, answer);
  }
  return {static_cast<CUresult>(error), ""};
}

std::string Peer::Get(const std::string& request) { return ValueOf(Ask(request), request); }

std::string Peer::ValueOf(const PeerAnswer& answer, const std::string& request) const {
  if (answer.result != CUDA_SUCCESS) {
    Fail(pid_,
         absl::StrCat(request.substr(0, 40), ": CUDA error ", static_cast<int>(answer.result)));
  }
  return answer.value;
}

UniqueFd Peer::GetDescriptor(const std::string& request) {
  Get(request);
  if (!descriptor_) Fail(pid_, request + ": no descriptor came");
  return std::move(descriptor_);
}

std::string Peer::Import(int descriptor, uint64_t bytes) {
  const std::string request = absl::StrCat("import ", bytes);
  return ValueOf(AskWith(descriptor, request), request);
}

void Peer::Tell(const std::string& request) { Send(request); }

void Peer::Fill(const std::string& name, uint64_t bytes, int value) {
  Get(absl::StrCat("fill ", name, " 0 ", bytes, " ", value));
}

bool Peer::Holds(const std::string& name, uint64_t bytes, int value) {
  return Get(absl::StrCat("holds ", name, " 0 ", bytes, " ", value)) == "yes";
}

void Peer::Stop() {
  TENURE_CHECK(kill(pid_, SIGSTOP) == 0);
  int status = 0;
  TENURE_CHECK(waitpid(pid_, &status, WUNTRACED) == pid_ && WIFSTOPPED(status));
}

void Peer::Continue() { TENURE_CHECK(kill(pid_, SIGCONT) == 0); }

void Peer::Kill() {
  TENURE_CHECK(kill(pid_, SIGKILL) == 0);
  Reap();
}

void Peer::Exit() {
  Send("exit");
  Reap();
}

void Peer::EndChildren() {
  if (lifeline_ >= 0) close(lifeline_);
  lifeline_ = -1;
}

int Peer::WaitForSignal() { return Reap(); }

int Peer::Reap() {
  int status = 0;
  TENURE_CHECK(waitpid(pid_, &status, 0) == pid_);
  pid_ = -1;
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

}  // namespace tenure::testing

#include "tests/support/fd_store_peer_process.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "common/check.h"
#include "tests/support/test_daemon.h"

namespace tenure::testing {

FdStorePeer::FdStorePeer(std::vector<std::string> environment) {
  const char* given = std::getenv("TENURE_PEER_FOLDER");
  if (given != nullptr) {
    folder_ = given;
  } else {
    folder_ = (std::filesystem::temp_directory_path() / "tenure-test-XXXXXX").string();
    TENURE_CHECK(mkdtemp(folder_.data()) != nullptr);
    own_folder_ = true;
    environment.push_back("TMPDIR=" + folder_);
    environment.push_back("XDG_RUNTIME_DIR=");
    keeper_ = StartProgram({ProgramFolder() + "/fd_store_peer", "--keeper", folder_}, environment);
  }
}

FdStorePeer::~FdStorePeer() {
  if (keeper_ > 0) {
    kill(keeper_, SIGTERM);
    WaitForKeeper();
  } else if (own_folder_ == false && pid_ > 0) {
    Kill();
    const std::string names = Tell("names").value_or("");
    for (const absl::string_view name : absl::StrSplit(names, ':', absl::SkipEmpty())) {
      Tell(absl::StrCat("remove ", name));
    }
    Kill();
  }
  std::error_code ignored;
  if (own_folder_) std::filesystem::remove_all(folder_, ignored);
}

pid_t FdStorePeer::supervisor() const {
  std::ifstream file(absl::StrCat("/proc/", pid_, "/stat"));
  const std::string stat((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  // pid (name) state ppid
  const size_t name_end = stat.rfind(')');
  TENURE_CHECK(name_end != std::string::npos);
  return std::atoi(stat.c_str() + name_end + 3);
}

bool FdStorePeer::Send(const std::string& line) {
  if (!connection_) AwaitNext();
  const std::string message = line + "\n";
  return send(connection_.get(), message.data(), message.size(), MSG_NOSIGNAL) > 0;
}

std::optional<std::string> FdStorePeer::Tell(const std::string& line) {
  if (!Send(line)) return std::nullopt;
  while (pending_.find('\n') == std::string::npos) {
    std::array<char, 4096> bytes;
    const ssize_t length = read(connection_.get(), bytes.data(), bytes.size());
    if (length <= 0) return std::nullopt;
    pending_.append(bytes.data(), static_cast<size_t>(length));
  }
  const size_t end = pending_.find('\n');
  std::string answer = pending_.substr(0, end);
  pending_.erase(0, end + 1);
  return answer;
}

void FdStorePeer::Kill() {
  if (pid_ < 0) AwaitNext();
  kill(pid_, SIGKILL);
  AwaitNext();
}

void FdStorePeer::AwaitNext() {
  TENURE_CHECK(Eventually([&] { return Connect(); }));
}

int FdStorePeer::WaitForKeeper() {
  const int code = WaitForExit(keeper_);
  keeper_ = -1;
  return code;
}

bool FdStorePeer::Connect() {
  UniqueFd connection(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string path = folder_ + "/peer.sock";
  TENURE_CHECK(path.size() < sizeof address.sun_path);
  std::memcpy(address.sun_path, path.data(), path.size());
  if (connect(connection.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return false;
  }
  // The kernel reports the pid of the listener, also if that is in a container.
  ucred peer = {};
  socklen_t length = sizeof peer;
  if (getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return false;
  if (peer.pid == pid_) return false;
  pid_ = peer.pid;
  connection_ = std::move(connection);
  pending_.clear();
  return true;
}

int CountFds(pid_t pid) {
  const std::filesystem::directory_iterator entries(absl::StrCat("/proc/", pid, "/fd"));
  return static_cast<int>(std::distance(begin(entries), end(entries)));
}

int CountPeerMemory(pid_t pid) {
  int count = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(absl::StrCat("/proc/", pid, "/fd"))) {
    std::error_code closed_meanwhile;
    const std::string file = std::filesystem::read_symlink(entry, closed_meanwhile).string();
    count += absl::StartsWith(file, "/memfd:fd_store_peer") ? 1 : 0;
  }
  return count;
}

}  // namespace tenure::testing

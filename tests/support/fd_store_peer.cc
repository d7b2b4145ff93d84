// fd_store_peer FOLDER: a program that stores memory with its supervisor. It takes commands on
// FOLDER/peer.sock, one line each, from one caller after another, and answers each with one line.
// With --keeper it is its own supervisor, as tenured is.
//
//   names                LISTEN_FDNAMES as it was at the start
//   inherited            NAME=BYTES of all descriptors that the supervisor passed on
//   store NAME BYTES     stores memory that holds BYTES
//   batch PREFIX COUNT   stores COUNT of them at once, PREFIX0 and so on, each holding its own name
//   send PREFIX COUNT    the same, but dies before the supervisor has answered
//   die-storing NAME BYTES   stores it and dies at once
//   remove NAME
//   fds                  how many descriptors this process has open
//   exit CODE
//
// Environment: TENURE_PEER_EXIT_AT_START, the exit code with which it ends before it serves;
// TENURE_PEER_MAX, the number of descriptors that its keeper stores at most, instead of 64. It is
// also the maximum that the peer assumes if its supervisor names none.

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include <systemd/sd-daemon.h>

#include "common/check.h"
#include "common/unique_fd.h"
#include "server/keeper/fd_store.h"
#include "server/keeper/keeper.h"

namespace tenure::testing {
namespace {

using server::FdStore;
using server::NamedFd;

size_t Maximum() {
  const char* max = std::getenv("TENURE_PEER_MAX");
  return max == nullptr ? 64 : static_cast<size_t>(std::atoi(max));
}

// A memfd with these bytes, which takes the place of a region.
UniqueFd MemoryWith(const std::string& bytes) {
  UniqueFd memory(memfd_create("fd_store_peer", MFD_CLOEXEC));
  TENURE_CHECK(memory);
  TENURE_CHECK(write(memory.get(), bytes.data(), bytes.size()) ==
               static_cast<ssize_t>(bytes.size()));
  return memory;
}

std::string BytesOf(int memory) {
  std::array<char, 4096> bytes;
  const ssize_t length = pread(memory, bytes.data(), bytes.size(), 0);
  return length < 0 ? "unreadable" : std::string(bytes.data(), static_cast<size_t>(length));
}

std::string Answer(const absl::Status& status) {
  return status.ok() ? "ok" : absl::StatusCodeToString(status.code());
}

class Peer {
 public:
  Peer(FdStore& store, std::string names) : store_(store), names_(std::move(names)) {
    inherited_ = store_.TakeStored();
  }

  std::string Do(const std::string& line) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    const std::string& verb = words[0];
    if (verb == "names") return names_;
    if (verb == "inherited") return Inherited();
    if (verb == "fds") return absl::StrCat(CountFds());
    if (verb == "remove") return Answer(store_.Remove(words.at(1)));
    if (verb == "batch") return Answer(Batch(words.at(1), std::stoi(words.at(2))));
    if (verb == "exit") _exit(std::stoi(words.at(1)));
    if (verb == "send") SendAndDie(words.at(1), std::stoi(words.at(2)));
    const absl::Status stored = store_.Store(words.at(1), MemoryWith(words.at(2)).get());
    if (verb == "die-storing" && stored.ok()) kill(getpid(), SIGKILL);
    return Answer(stored);
  }

 private:
  std::string Inherited() const {
    std::string all;
    for (const auto& [name, memory] : inherited_) {
      absl::StrAppend(&all, all.empty() ? "" : " ", name, "=", BytesOf(memory.get()));
    }
    return all;
  }

  static int CountFds() {
    int count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      count += entry.path().empty() ? 0 : 1;
    }
    return count - 1;  // the folder itself was open
  }

  absl::Status Batch(const std::string& prefix, int count) {
    std::vector<std::string> names;
    std::vector<UniqueFd> memory;
    for (int i = 0; i < count; ++i) {
      names.push_back(absl::StrCat(prefix, i));
      memory.push_back(MemoryWith(names.back()));
    }
    std::vector<NamedFd> batch;
    for (size_t i = 0; i < names.size(); ++i) batch.push_back({names[i], memory[i].get()});
    return store_.Store(batch);
  }

  [[noreturn]] static void SendAndDie(const std::string& prefix, int count) {
    for (int i = 0; i < count; ++i) {
      const std::string name = absl::StrCat(prefix, i);
      const UniqueFd memory = MemoryWith(name);
      const int fd = memory.get();
      sd_pid_notify_with_fds(0, 0, absl::StrCat("FDSTORE=1\nFDPOLL=0\nFDNAME=", name).c_str(), &fd,
                             1);
    }
    kill(getpid(), SIGKILL);
    std::abort();
  }

  FdStore& store_;
  const std::string names_;
  std::map<std::string, UniqueFd> inherited_;
};

// Answers one caller until it closes the connection.
void Serve(int connection, Peer& peer) {
  std::string pending;
  std::array<char, 4096> bytes;
  while (true) {
    const ssize_t length = read(connection, bytes.data(), bytes.size());
    if (length <= 0) return;
    pending.append(bytes.data(), static_cast<size_t>(length));
    for (size_t end = pending.find('\n'); end != std::string::npos; end = pending.find('\n')) {
      const std::string answer = peer.Do(pending.substr(0, end)) + "\n";
      pending.erase(0, end + 1);
      if (send(connection, answer.data(), answer.size(), MSG_NOSIGNAL) < 0) return;
    }
  }
}

int Main(const std::string& folder) {
  if (const char* code = std::getenv("TENURE_PEER_EXIT_AT_START")) return std::atoi(code);
  const char* names = std::getenv("LISTEN_FDNAMES");
  const std::string passed = names == nullptr ? "" : names;
  auto store = FdStore::FromEnvironment(Maximum());
  TENURE_CHECK(store.ok());
  Peer peer(**store, passed);

  const std::string path = folder + "/peer.sock";
  unlink(path.c_str());
  const UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  TENURE_CHECK(path.size() < sizeof address.sun_path);
  std::memcpy(address.sun_path, path.data(), path.size());
  TENURE_CHECK(bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
               0);
  TENURE_CHECK(listen(listener.get(), 4) == 0);
  sd_notify(0, "READY=1");
  while (true) {
    const UniqueFd connection(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (connection) Serve(connection.get(), peer);
  }
}

}  // namespace
}  // namespace tenure::testing

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--keeper") {
    // No pause between starts: the tests kill far more often than failures happen.
    return tenure::server::RunKeeper({.max_fds = tenure::testing::Maximum(),
                                      .shortest_spacing = absl::Milliseconds(1),
                                      .longest_spacing = absl::Milliseconds(20)},
                                     argc, argv);
  }
  if (argc != 2) return 64;
  return tenure::testing::Main(argv[1]);
}

// A client process for the integration tests. It prints its first line when it has reached the
// state that the test needs.
//
//   lease_client hold SOCKET BYTES [COUNT] leases a block, or as many, fills them, prints "held
//                                          ALLOCATION SESSION", waits until killed
//   lease_client fork SOCKET BYTES         the same, then forks a child that lives on: prints
//                                          "forked CHILD"
//   lease_client clone SOCKET BYTES        the same by the system call, so that no fork handler
//                                          of the C library runs in the child
//   lease_client exec SOCKET BYTES         the same as hold, then runs another program in its place
//   lease_client storm SOCKET SEED         prints "storming", then leases, fills, checks and frees
//                                          at random until killed
//   lease_client expect-zero SOCKET BYTES  leases a block and ends with 0 when every byte is zero
//   lease_client intrude SOCKET SESSION ALLOCATION
//                                          uses another process's ids; prints the status codes
//   lease_client load SOCKET NAME          claims a segment and never loads it: prints "loading",
//                                          waits until killed
//
// With a last word "vmm" the blocks are of kind VMM_FD, otherwise of the daemon's default.
//
// Ends with 3 when a block holds bytes that this process did not write.

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include "client/client.h"
#include "client/segment.h"
#include "tenure/v1/allocator.grpc.pb.h"

namespace {

using tenure::Bytes;

constexpr int kForeignContents = 3;

[[noreturn]] void Die(const absl::Status& status) {
  std::fprintf(stderr, "lease_client: %s\n", status.ToString().c_str());
  // _exit runs no destructors, which would wait for the session's threads.
  _exit(1);
}

template <typename T>
T OrDie(absl::StatusOr<T> value) {
  if (!value.ok()) Die(value.status());
  return *std::move(value);
}

void OrDie(const absl::Status& status) {
  if (!status.ok()) Die(status);
}

std::optional<tenure::MemoryKind> g_kind;

tenure::Client Connect(const std::string& socket) {
  tenure::ConnectOptions options;
  options.socket = socket;
  options.memory_kind = g_kind;
  options.name = "lease_client";
  return OrDie(tenure::Client::Connect(options));
}

std::vector<unsigned char> Contents(const tenure::DeviceBuffer& buffer, Bytes size) {
  std::vector<unsigned char> bytes(size.value());
  OrDie(buffer.CopyToHost(bytes.data(), size));
  return bytes;
}

void Fill(tenure::DeviceBuffer& buffer, Bytes size, unsigned char pattern) {
  const std::vector<unsigned char> bytes(size.value(), pattern);
  OrDie(buffer.CopyFromHost(bytes.data(), size));
}

void Say(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

[[noreturn]] void WaitForEver() {
  while (true) pause();
}

// The byte that this process writes: never zero, and not that of the process before it.
unsigned char OwnPattern() { return static_cast<unsigned char>(getpid() % 255 + 1); }

enum class Then { kWait, kFork, kClone, kExec };

int Hold(const std::string& socket, Bytes size, Then then, uint64_t count = 1) {
  tenure::Client client = Connect(socket);
  std::vector<tenure::DeviceBuffer> buffers;
  for (uint64_t i = 0; i < count; ++i) {
    buffers.push_back(OrDie(client.Allocate(size)));
    Fill(buffers.back(), size, OwnPattern());
  }
  if (then == Then::kFork || then == Then::kClone) {
    const pid_t child =
        then == Then::kFork ? fork() : static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
    if (child == 0) WaitForEver();
    Say("forked " + std::to_string(child));
    WaitForEver();
  }
  Say("held " + std::to_string(buffers.back().allocation_id()) + " " +
      std::to_string(client.session_id()));
  if (then == Then::kExec) {
    execlp("sleep", "sleep", "1000", nullptr);
    return 1;
  }
  WaitForEver();
}

int ExpectZero(const std::string& socket, Bytes size) {
  tenure::Client client = Connect(socket);
  const tenure::DeviceBuffer buffer = OrDie(client.Allocate(size));
  const std::vector<unsigned char> bytes = Contents(buffer, size);
  return std::all_of(bytes.begin(), bytes.end(), [](unsigned char byte) { return byte == 0; })
             ? 0
             : kForeignContents;
}

struct Held {
  tenure::DeviceBuffer buffer;
  Bytes size;
};

// A block is zero when its region is new to this process, otherwise as this process left it.
bool IsOwnOrZero(const std::vector<unsigned char>& bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [own = OwnPattern()](unsigned char byte) { return byte == 0 || byte == own; });
}

int Storm(const std::string& socket, unsigned seed) {
  tenure::Client client = Connect(socket);
  std::mt19937 random(seed);
  std::vector<Held> held;
  Say("storming");
  while (true) {
    const bool take = held.empty() || (held.size() < 24 && random() % 5 < 3);
    if (take) {
      // Sizes from 1 byte to 4 MiB, the small ones often.
      const Bytes size(1 + random() % (uint64_t{1} << (random() % 23)));
      Held block{OrDie(client.Allocate(size)), size};
      if (!IsOwnOrZero(Contents(block.buffer, size))) return kForeignContents;
      Fill(block.buffer, size, OwnPattern());
      held.push_back(std::move(block));
    } else {
      const size_t which = random() % held.size();
      const std::vector<unsigned char> bytes = Contents(held[which].buffer, held[which].size);
      if (std::any_of(bytes.begin(), bytes.end(),
                      [](unsigned char byte) { return byte != OwnPattern(); })) {
        return kForeignContents;
      }
      std::swap(held[which], held.back());
      held.pop_back();
    }
  }
}

int Intrude(const std::string& socket, uint64_t session, uint64_t allocation) {
  const auto channel = grpc::CreateChannel("unix:" + socket, grpc::InsecureChannelCredentials());
  const auto stub = tenure::v1::Allocator::NewStub(channel);
  std::string codes;
  {
    grpc::ClientContext context;
    tenure::v1::FreeRequest request;
    request.set_session_id(session);
    request.set_request_id(1);
    request.set_allocation_id(allocation);
    tenure::v1::FreeResponse response;
    codes += std::to_string(stub->Free(&context, request, &response).error_code()) + " ";
  }
  {
    grpc::ClientContext context;
    tenure::v1::AllocateRequest request;
    request.set_session_id(session);
    request.set_request_id(2);
    request.set_size_bytes(1);
    tenure::v1::AllocateResponse response;
    codes += std::to_string(stub->Allocate(&context, request, &response).error_code()) + " ";
  }
  {
    grpc::ClientContext context;
    tenure::v1::CloseSessionRequest request;
    request.set_session_id(session);
    tenure::v1::CloseSessionResponse response;
    codes += std::to_string(stub->CloseSession(&context, request, &response).error_code());
  }
  Say(codes);
  return 0;
}

int Load(const std::string& socket, const std::string& name) {
  tenure::Client client = Connect(socket);
  OrDie(client.AttachOrLoad(name, [](tenure::Client&) -> absl::StatusOr<tenure::SegmentContents> {
    Say("loading");
    WaitForEver();
  }));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  if (!words.empty() && words.back() == "vmm") {
    g_kind = tenure::MemoryKind::kVmmFd;
    words.pop_back();
  }
  if (words.size() >= 3) {
    const std::string& what = words[0];
    const uint64_t number = std::strtoull(words[2].c_str(), nullptr, 10);
    if (what == "hold") {
      const uint64_t count = words.size() > 3 ? std::strtoull(words[3].c_str(), nullptr, 10) : 1;
      return Hold(words[1], Bytes(number), Then::kWait, std::max<uint64_t>(count, 1));
    }
    if (what == "fork") return Hold(words[1], Bytes(number), Then::kFork);
    if (what == "clone") return Hold(words[1], Bytes(number), Then::kClone);
    if (what == "exec") return Hold(words[1], Bytes(number), Then::kExec);
    if (what == "storm") return Storm(words[1], static_cast<unsigned>(number));
    if (what == "expect-zero") return ExpectZero(words[1], Bytes(number));
    if (what == "load") return Load(words[1], words[2]);
    if (what == "intrude" && words.size() == 4) {
      return Intrude(words[1], number, std::strtoull(words[3].c_str(), nullptr, 10));
    }
  }
  std::fprintf(stderr,
               "usage: lease_client hold|fork|clone|exec|storm|expect-zero|intrude|load SOCKET "
               "NUMBER|NAME [NUMBER] [vmm]\n");
  return 2;
}

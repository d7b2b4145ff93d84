#include "tests/benchmark/crowd.h"

#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <deque>

#include "absl/strings/numbers.h"

#include "tenure/v1/allocator.pb.h"
#include "tests/benchmark/descriptors.h"
#include "tests/support/raw_http2.h"

namespace tenure::testing {
namespace {

constexpr char kOpenSession[] = "/tenure.v1.Allocator/OpenSession";

// Only the trailers contain grpc-status; 0 is success.
bool IsOpened(http2::Connection& connection) {
  std::string answer;
  bool closed = false;
  while (!closed) {
    answer += connection.Receive(&closed);
    const size_t status = answer.find("grpc-status");
    if (status != std::string::npos && status + 12 < answer.size()) {
      return answer[status + 12] == '0';
    }
    pollfd entry = {connection.fd(), POLLIN, 0};
    poll(&entry, 1, 1'000);
  }
  return false;
}

bool OpenOne(http2::Connection& connection, uint64_t request_id) {
  v1::OpenSessionRequest request;
  request.set_request_id(request_id);
  request.set_name("idle");
  return connection.fd() >= 0 &&
         connection.Send(http2::Opening() +
                         http2::Frame(http2::kSettings, http2::kAcknowledge, 0, "") +
                         http2::Call(1, kOpenSession, request.SerializeAsString())) &&
         IsOpened(connection);
}

}  // namespace

int KeepCrowd(const std::vector<std::string>& words) {
  uint64_t count = 0;
  if (words.size() != 2 || !absl::SimpleAtoi(words[1], &count)) return 2;
  RaiseDescriptorLimit();
  std::deque<http2::Connection> crowd;
  for (uint64_t i = 1; i <= count; ++i) {
    crowd.emplace_back(words[0]);
    if (!OpenOne(crowd.back(), i)) {
      std::fprintf(stderr, "session %zu of this process was not opened\n", crowd.size());
      return 1;
    }
  }
  std::printf("open\n");
  std::fflush(stdout);
  while (true) pause();
}

}  // namespace tenure::testing

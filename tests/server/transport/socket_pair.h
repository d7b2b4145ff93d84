// Two connected sockets in one process: the daemon's end and the client's.
#ifndef TESTS_SERVER_TRANSPORT_SOCKET_PAIR_H_
#define TESTS_SERVER_TRANSPORT_SOCKET_PAIR_H_

#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include <gtest/gtest.h>

#include "common/unique_fd.h"

namespace tenure::server {

// Thread safety: thread-compatible.
struct SocketPair {
  SocketPair() {
    std::array<int, 2> ends = {};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    daemon.Reset(ends[0]);
    client.Reset(ends[1]);
  }
  // Whether the client sees that the daemon has ended the connection.
  bool IsCut() const {
    char byte = 0;
    return recv(client.get(), &byte, 1, MSG_DONTWAIT) == 0;
  }

  UniqueFd daemon;
  UniqueFd client;
};

}  // namespace tenure::server

#endif  // TESTS_SERVER_TRANSPORT_SOCKET_PAIR_H_

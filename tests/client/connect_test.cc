// Connecting to sockets that are missing or stale, or whose path has unusual characters.
#include <unistd.h>

#include <string>

#include <gtest/gtest.h>

#include "client/client.h"
#include "tests/client/fake_daemon.h"
#include "tests/client/socket_folder.h"

namespace tenure::testing {
namespace {

class Connect : public ::testing::Test, protected SocketFolder {};

TEST_F(Connect, FailsAtOnceWithTheErrorsOfTheSocketProbe) {
  EXPECT_TRUE(absl::IsNotFound(Client::Connect({.socket = folder_ + "/none"}).status()));
  EXPECT_TRUE(absl::IsUnavailable(Client::Connect({.socket = StaleSocket()}).status()));
}

TEST_F(Connect, PathMayHoldAnyCharacter) {
  FakeDaemon daemon;
  const std::string odd = folder_ + "/a b%20c?#ü";
  ASSERT_EQ(symlink(daemon.socket().c_str(), odd.c_str()), 0);
  const absl::StatusOr<Client> client = Client::Connect({.socket = odd, .map = false});
  EXPECT_TRUE(client.ok()) << client.status();
}

}  // namespace
}  // namespace tenure::testing

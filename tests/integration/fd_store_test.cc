// Descriptors that a supervisor stores for the daemon outlive it. The claims hold of `tenured
// --keeper` and, with TENURE_PEER_FOLDER, of systemd: see tests/deploy/systemd_fd_store.py.

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include <gtest/gtest.h>

#include "tests/support/fd_store_peer_process.h"

namespace tenure::testing {
namespace {

// The number of descriptors that the peer's supervisor stores at most.
constexpr int kMax = 64;

std::vector<std::string> Words(const std::string& text, char separator) {
  return absl::StrSplit(text, separator, absl::SkipEmpty());
}

TEST(FdStoreTest, WhatWasStoredComesBackWithNamesBytesAndTheLatestFirst) {
  FdStorePeer peer;
  EXPECT_EQ(peer.Tell("names"), "");
  EXPECT_EQ(peer.Tell("store a one"), "ok");
  EXPECT_EQ(peer.Tell("store b two"), "ok");
  EXPECT_EQ(peer.Tell("batch c 2"), "ok");
  for (int life = 0; life < 3; ++life) {
    peer.Kill();
    EXPECT_EQ(peer.Tell("names"), "c1:c0:b:a");
    EXPECT_EQ(peer.Tell("inherited"), "a=one b=two c0=c0 c1=c1");
  }
}

TEST(FdStoreTest, StoredMeansThatTheDeathOfTheNextMomentLosesNothing) {
  FdStorePeer peer;
  for (int i = 0; i < 100; ++i) {
    const std::string name = absl::StrCat("region", i);
    EXPECT_EQ(peer.Tell(absl::StrCat("die-storing ", name, " ", i)), std::nullopt);
    peer.AwaitNext();
    ASSERT_EQ(peer.Tell("inherited"), absl::StrCat(name, "=", i));
    ASSERT_EQ(peer.Tell("remove " + name), "ok");
  }
}

TEST(FdStoreTest, DeathInTheMiddleOfStoringLeavesWholeOnesInOrder) {
  FdStorePeer peer;
  for (int count = 0; count < 40; ++count) {
    // In every second round this test kills the peer in the middle, without waiting for its answer.
    if (count % 2 == 0) {
      peer.Tell(absl::StrCat("send x ", count));
      peer.AwaitNext();
    } else {
      peer.Send(absl::StrCat("batch x ", count));
      peer.Kill();
    }
    const std::vector<std::string> names = Words(peer.Tell("names").value(), ':');
    for (size_t i = 0; i < names.size(); ++i) {
      EXPECT_EQ(names[i], absl::StrCat("x", names.size() - 1 - i));
    }
    for (const std::string& found : Words(peer.Tell("inherited").value(), ' ')) {
      const std::vector<std::string> sides = Words(found, '=');
      EXPECT_EQ(sides.at(0), sides.at(1));
    }
    for (const std::string& name : names) ASSERT_EQ(peer.Tell("remove " + name), "ok");
  }
}

TEST(FdStoreTest, ThreeHundredDeathsLeakNoDescriptor) {
  FdStorePeer peer;
  ASSERT_EQ(peer.Tell("batch kept 10"), "ok");
  peer.Kill();
  const int own = std::stoi(peer.Tell("fds").value());
  const int supervisors = CountFds(peer.supervisor());
  for (int i = 0; i < 300; ++i) {
    ASSERT_EQ(peer.Tell("store more bytes"), "ok");
    ASSERT_EQ(peer.Tell("remove more"), "ok");
    ASSERT_EQ(peer.Tell("store last bytes"), "ok");
    peer.Kill();
    ASSERT_EQ(peer.Tell("remove last"), "ok");
  }
  peer.Kill();
  EXPECT_EQ(peer.Tell("fds"), absl::StrCat(own));
  EXPECT_EQ(CountPeerMemory(peer.supervisor()), 10);
  // systemd opens and closes other files as well.
  if (peer.has_own_keeper()) {
    EXPECT_EQ(CountFds(peer.supervisor()), supervisors);
  }
  EXPECT_EQ(Words(peer.Tell("names").value(), ':').size(), 10u);
}

TEST(FdStoreTest, WhatWasRemovedDoesNotComeBack) {
  FdStorePeer peer;
  ASSERT_EQ(peer.Tell("batch r 3"), "ok");
  EXPECT_EQ(peer.Tell("remove r1"), "ok");
  EXPECT_EQ(peer.Tell("remove r1"), "NOT_FOUND");
  // A store ends with a barrier, so the removal before it is done when it returns.
  EXPECT_EQ(peer.Tell("store s later"), "ok");
  peer.Kill();
  EXPECT_EQ(peer.Tell("names"), "s:r2:r0");
  // The process that inherited a descriptor can remove it as well.
  EXPECT_EQ(peer.Tell("remove r0"), "ok");
  EXPECT_EQ(peer.Tell("store t last"), "ok");
  peer.Kill();
  EXPECT_EQ(peer.Tell("names"), "t:s:r2");
}

TEST(FdStoreTest, MoreThanTheMaximumIsRefusedInsteadOfLost) {
  FdStorePeer peer;
  EXPECT_EQ(peer.Tell(absl::StrCat("batch x ", kMax + 1)), "RESOURCE_EXHAUSTED");
  EXPECT_EQ(peer.Tell(absl::StrCat("batch x ", kMax)), "ok");
  EXPECT_EQ(peer.Tell("store y bytes"), "RESOURCE_EXHAUSTED");
  peer.Kill();
  EXPECT_EQ(Words(peer.Tell("names").value(), ':').size(), size_t{kMax});
  EXPECT_EQ(peer.Tell("store y bytes"), "RESOURCE_EXHAUSTED");
  EXPECT_EQ(peer.Tell("remove x7"), "ok");
  EXPECT_EQ(peer.Tell("store y bytes"), "ok");
  peer.Kill();
  EXPECT_EQ(Words(peer.Tell("names").value(), ':').size(), size_t{kMax});
}

TEST(FdStoreTest, NamesThatCannotBePassedOnOrAreTakenAreRefused) {
  FdStorePeer peer;
  EXPECT_EQ(peer.Tell("store a:b bytes"), "INVALID_ARGUMENT");
  EXPECT_EQ(peer.Tell("store a\tb bytes"), "INVALID_ARGUMENT");
  EXPECT_EQ(peer.Tell("store  bytes"), "INVALID_ARGUMENT");
  EXPECT_EQ(peer.Tell("store " + std::string(256, 'x') + " bytes"), "INVALID_ARGUMENT");
  EXPECT_EQ(peer.Tell("store " + std::string(255, 'x') + " bytes"), "ok");
  EXPECT_EQ(peer.Tell("store " + std::string(255, 'x') + " bytes"), "ALREADY_EXISTS");
  peer.Kill();
  EXPECT_EQ(peer.Tell("names"), std::string(255, 'x'));
  EXPECT_EQ(peer.Tell("store " + std::string(255, 'x') + " bytes"), "ALREADY_EXISTS");
}

}  // namespace
}  // namespace tenure::testing

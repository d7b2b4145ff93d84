// The daemon's knowledge of a process, also after the process has ended.

#include "server/identity/peer.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <memory>

#include "absl/time/clock.h"
#include <gtest/gtest.h>

namespace tenure::server {
namespace {

// A child of this process that waits until it is killed.
class Child {
 public:
  Child() : pid_(fork()) {
    if (pid_ == 0) {
      for (;;) pause();
    }
  }
  ~Child() { End(); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }
  // Kills it, and returns when it has exited; it stays a zombie.
  void Kill() {
    kill(pid_, SIGKILL);
    siginfo_t info = {};
    EXPECT_EQ(waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT), 0);
  }
  // Removes the zombie too.
  void End() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  // Whether the condition holds within 20 s.
  template <typename Condition>
  static bool Eventually(Condition condition) {
    // Nothing reports that a process has stopped or continued.
    for (int i = 0; i < 2'000 && !condition(); ++i) absl::SleepFor(absl::Milliseconds(10));
    return condition();
  }

 private:
  pid_t pid_;
};

std::shared_ptr<const Peer> PeerOf(const Child& child) {
  absl::StatusOr<std::shared_ptr<const Peer>> peer = Peer::OfProcess(child.pid(), 1000, 1001);
  EXPECT_TRUE(peer.ok()) << peer.status();
  return peer.ok() ? *peer : nullptr;
}

TEST(PeerTest, ALivingProcessIsNamedByPidAndStartTime) {
  const Child child;
  const std::shared_ptr<const Peer> peer = PeerOf(child);
  ASSERT_NE(peer, nullptr);
  EXPECT_EQ(peer->pid(), child.pid());
  EXPECT_EQ(peer->uid(), 1000u);
  EXPECT_EQ(peer->gid(), 1001u);
  EXPECT_EQ(peer->tenant().ToString(), "uid:1000");
  EXPECT_GT(peer->key().start_time, 0u);
  EXPECT_EQ(peer->key(), PeerOf(child)->key());
  EXPECT_FALSE(peer->Exited());
}

TEST(PeerTest, AProcessThatStartedLaterHasAnotherKeyEvenWithTheSamePid) {
  const Child earlier;
  // Time is the point: start times are counted in ticks of 10 ms.
  absl::SleepFor(absl::Milliseconds(30));
  const Child later;
  const ProcessKey first = PeerOf(earlier)->key();
  const ProcessKey second = PeerOf(later)->key();
  EXPECT_LT(first.start_time, second.start_time);
  EXPECT_NE((ProcessKey{first.pid, first.start_time}), (ProcessKey{first.pid, second.start_time}));
}

TEST(PeerTest, APeerSeesTheExitOfItsProcessBeforeAndAfterItIsWaitedFor) {
  Child child;
  const std::shared_ptr<const Peer> peer = PeerOf(child);
  ASSERT_NE(peer, nullptr);
  child.Kill();
  EXPECT_TRUE(peer->Exited()) << "a zombie has exited";
  EXPECT_TRUE(absl::IsNotFound(Peer::OfProcess(child.pid(), 0, 0).status()));
  child.End();
  EXPECT_TRUE(peer->Exited());
  EXPECT_TRUE(absl::IsNotFound(peer->Kill())) << "whichever process has its pid now";
}

TEST(PeerTest, AProcessThatIsGoneIsNotFound) {
  Child child;
  const pid_t pid = child.pid();
  child.End();
  EXPECT_TRUE(absl::IsNotFound(Peer::OfProcess(pid, 0, 0).status()));
}

TEST(PeerTest, WithoutDescriptorsNoProcessIsTakenForDead) {
  const Child child;
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const UniqueFd lowest(open("/dev/null", O_RDONLY | O_CLOEXEC));
  // The first number allows nothing more to be opened, the second a pidfd and nothing beside it.
  for (const int more : {0, 1}) {
    const rlimit none_left = {static_cast<rlim_t>(lowest.get() + 1 + more), before.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none_left), 0);
    const absl::Status status = Peer::OfProcess(child.pid(), 0, 0).status();
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  }
}

TEST(PeerTest, APeerWithoutAPidfdHasExitedAndKeepsItsKey) {
  const ProcessKey key = {4711, 12345};
  const std::shared_ptr<const Peer> peer = Peer::Gone(key, 1000, 1001);
  EXPECT_TRUE(peer->Exited());
  EXPECT_FALSE(peer->Stopped());
  EXPECT_EQ(peer->key(), key);
  EXPECT_EQ(peer->tenant(), Tenant{1000});
}

TEST(PeerTest, AStoppedProcessIsSeenAsStoppedUntilItContinues) {
  const Child child;
  const std::shared_ptr<const Peer> peer = PeerOf(child);
  ASSERT_NE(peer, nullptr);
  EXPECT_FALSE(peer->Stopped());
  ASSERT_EQ(kill(child.pid(), SIGSTOP), 0);
  EXPECT_TRUE(Child::Eventually([&] { return peer->Stopped(); }));
  EXPECT_FALSE(peer->Exited());
  ASSERT_EQ(kill(child.pid(), SIGCONT), 0);
  EXPECT_TRUE(Child::Eventually([&] { return !peer->Stopped(); }));
}

TEST(PeerTest, KillEndsTheProcess) {
  const Child child;
  const std::shared_ptr<const Peer> peer = PeerOf(child);
  ASSERT_NE(peer, nullptr);
  EXPECT_TRUE(peer->Kill().ok());
  EXPECT_TRUE(Child::Eventually([&] { return peer->Exited(); }));
}

TEST(PeerTest, TheProcessThatConnectedASocketIsFoundWithItsRights) {
  std::array<int, 2> ends = {};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  const UniqueFd one(ends[0]);
  const UniqueFd other(ends[1]);
  const absl::StatusOr<std::shared_ptr<const Peer>> peer = Peer::OfSocket(one.get());
  ASSERT_TRUE(peer.ok()) << peer.status();
  EXPECT_EQ((*peer)->pid(), getpid());
  EXPECT_EQ((*peer)->uid(), geteuid());
  EXPECT_EQ((*peer)->gid(), getegid());
  EXPECT_TRUE((*peer)->IsOperator());
}

TEST(PeerTest, OnlyRootAndTheDaemonsOwnUserAreOperators) {
  EXPECT_TRUE(Peer::Gone({1, 1}, 0, 0)->IsOperator());
  EXPECT_TRUE(Peer::Gone({1, 1}, geteuid(), 0)->IsOperator());
  EXPECT_FALSE(Peer::Gone({1, 1}, geteuid() + 1, 0)->IsOperator());
}

}  // namespace
}  // namespace tenure::server

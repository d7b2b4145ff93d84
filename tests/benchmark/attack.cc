#include "tests/benchmark/attack.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <functional>
#include <map>
#include <sstream>
#include <thread>

#include "absl/strings/numbers.h"

#include "common/check.h"
#include "tests/benchmark/descriptors.h"
#include "tests/benchmark/samples.h"
#include "tests/support/raw_http2.h"

namespace tenure::testing {
namespace {

constexpr size_t kAttackers = 2;
constexpr size_t kIdleConnections = 5'000;
constexpr char kPing[] = "/tenure.v1.Stats/Ping";
constexpr char kGetStats[] = "/tenure.v1.Stats/GetStats";
constexpr std::chrono::milliseconds kPause{1};

using Time = SteadyClock::time_point;

// The bytes to send next; empty when the attacker pauses.
using Next = std::function<std::string(const http2::Connection&)>;

std::string Acknowledgement() { return http2::Frame(http2::kSettings, http2::kAcknowledge, 0, ""); }

bool HasHungUp(int fd, int wait_ms, short also) {
  pollfd entry = {fd, static_cast<short>(POLLRDHUP | also), 0};
  return poll(&entry, 1, wait_ms) == 1 && (entry.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

// Sends and never blocks for long. Returns whether the daemon closed the connection before `end`.
bool IsCut(const http2::Connection& connection, const Next& next, Time end) {
  std::string pending = http2::Opening() + Acknowledgement();
  while (SteadyClock::now() < end) {
    if (pending.empty()) pending = next(connection);
    if (pending.empty()) {
      if (HasHungUp(connection.fd(), /*wait_ms=*/1, 0)) return true;
      continue;
    }
    const ssize_t sent =
        send(connection.fd(), pending.data(), pending.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      pending.erase(0, static_cast<size_t>(sent));
    } else if (errno != EAGAIN) {
      return true;
    } else if (HasHungUp(connection.fd(), /*wait_ms=*/10, POLLOUT)) {
      return true;
    }
  }
  return false;
}

// Attacks on one connection after the other, each with a new `offence`.
Samples Offend(const std::string& socket, Time end, const std::function<Next()>& offence) {
  Samples until_cut;
  while (SteadyClock::now() < end) {
    const Time began = SteadyClock::now();
    const http2::Connection connection(socket);
    if (connection.fd() < 0) continue;
    if (IsCut(connection, offence(), end) || MicrosecondsSince(began) > 1e6) {
      until_cut.Add(MicrosecondsSince(began));
    }
  }
  return until_cut;
}

Samples Spin(const std::string&, Time end) {
  while (SteadyClock::now() < end) {
  }
  return {};
}

Samples ResetStorm(const std::string& socket, Time end) {
  return Offend(socket, end, [] {
    return [stream = uint32_t{1}](const http2::Connection&) mutable {
      std::string frames;
      for (int i = 0; i < 32; ++i, stream += 2) {
        frames +=
            http2::Frame(http2::kHeaders, http2::kEndHeaders, stream, http2::HeaderBlock(kPing)) +
            http2::Frame(http2::kResetStream, http2::kNone, stream, std::string("\0\0\0\x8", 4));
      }
      return frames;
    };
  });
}

Samples HeaderBomb(const std::string& socket, Time end) {
  return Offend(socket, end, [] {
    return [begun = false](const http2::Connection&) mutable {
      const std::string more = std::string(1, '\0') + "\x05xxxxx" + "\x7e" + std::string(126, 'y');
      std::string frames;
      if (!begun) {
        frames = http2::Frame(http2::kHeaders, http2::kNone, 1, http2::HeaderBlock(kPing));
      }
      begun = true;
      for (int i = 0; i < 32; ++i) {
        frames += http2::Frame(http2::kContinuation, http2::kNone, 1, more);
      }
      return frames;
    };
  });
}

// Sends a few requests at a time until no more answers arrive, because the unread ones fill the
// socket. Then leaves them there.
class UnreadAnswers {
 public:
  explicit UnreadAnswers(bool trickle) : trickle_(trickle) {}

  std::string operator()(const http2::Connection& connection) {
    if (stream_ == 1) {
      // The HTTP/2 window never closes, so the socket fills first.
      return http2::Frame(http2::kWindowUpdate, http2::kNone, 0,
                          std::string("\x3f\xff\x00\x00", 4)) +
             SomeCalls();
    }
    const Time now = SteadyClock::now();
    int unread = 0;
    TENURE_CHECK(ioctl(connection.fd(), FIONREAD, &unread) == 0);
    if (unread > unread_) {
      unread_ = unread;
      grew_ = now;
    } else if (unread_ > unread_when_asked_ && now - grew_ > 2 * kPause) {
      unread_when_asked_ = unread_;
      return SomeCalls();
    } else if (trickle_ && now - read_ > 20 * kPause) {
      char bytes[16];
      recv(connection.fd(), bytes, sizeof bytes, MSG_DONTWAIT);
      read_ = now;
    }
    return "";
  }

 private:
  std::string SomeCalls() {
    std::string calls;
    for (int i = 0; i < 48; ++i, stream_ += 2) calls += http2::Call(stream_, kGetStats, "");
    return calls;
  }

  const bool trickle_;
  uint32_t stream_ = 1;
  int unread_ = 0;
  int unread_when_asked_ = 0;
  Time grew_;
  Time read_;
};

Samples LeaveUnread(const std::string& socket, Time end) {
  return Offend(socket, end, [trickle = false]() mutable {
    trickle = !trickle;
    return UnreadAnswers(trickle);
  });
}

Samples OpenIdle(const std::string& socket, Time end) {
  std::deque<http2::Connection> crowd;
  while (SteadyClock::now() < end) {
    if (crowd.size() == kIdleConnections) crowd.clear();
    crowd.emplace_back(socket);
    if (crowd.back().fd() < 0 || !crowd.back().Send(http2::Opening())) crowd.pop_back();
  }
  return {};
}

// A connection on which no answer has arrived yet.
struct Asking {
  http2::Connection connection;
  Time since;
};

Samples ExhaustDescriptors(const std::string& socket, Time end) {
  constexpr size_t kAtOnce = 64;
  Samples until_turned_away;
  std::deque<http2::Connection> taken;
  std::deque<Asking> asking;
  while (SteadyClock::now() < end) {
    while (asking.size() < kAtOnce) {
      asking.push_back({http2::Connection(socket), SteadyClock::now()});
      if (asking.back().connection.fd() >= 0) asking.back().connection.Send(http2::Opening());
    }
    for (size_t i = asking.size(); i > 0; --i) {
      Asking one = std::move(asking.front());
      asking.pop_front();
      bool closed = false;
      const bool answered = !one.connection.Receive(&closed).empty();
      if (closed) {
        until_turned_away.Add(MicrosecondsSince(one.since));
      } else if (answered) {
        taken.push_back(std::move(one.connection));
      } else {
        asking.push_back(std::move(one));
      }
    }
    std::this_thread::sleep_for(kPause);
  }
  for (const Asking& one : asking) {
    if (MicrosecondsSince(one.since) > 1e6) until_turned_away.Add(MicrosecondsSince(one.since));
  }
  return until_turned_away;
}

}  // namespace

int Attack(const std::vector<std::string>& words) {
  const std::map<std::string, std::function<Samples(const std::string&, Time)>> attacks = {
      {"spin", Spin},          {"reset", ResetStorm}, {"header", HeaderBomb},
      {"unread", LeaveUnread}, {"idle", OpenIdle},    {"descriptors", ExhaustDescriptors},
  };
  int seconds = 0;
  if (words.size() != 3 || !attacks.contains(words[0]) || !absl::SimpleAtoi(words[2], &seconds)) {
    return 2;
  }
  RaiseDescriptorLimit();
  std::printf("begun\n");
  std::fflush(stdout);
  const Samples until_cut =
      attacks.at(words[0])(words[1], SteadyClock::now() + std::chrono::seconds(seconds));
  std::printf("%zu %.0f %.0f\n", until_cut.size(), until_cut.Quantile(0.5), until_cut.Quantile(1));
  std::fflush(stdout);
  while (true) pause();
}

Attackers::Attackers(const std::string& name, const std::string& socket, int seconds) {
  for (size_t i = 0; i < kAttackers; ++i) {
    processes_.emplace_back(
        std::vector<std::string>{"attack", name, socket, std::to_string(seconds)},
        "disturbance_benchmark");
  }
  for (LeaseClientProcess& process : processes_) TENURE_CHECK(process.ReadLine() == "begun");
}

Attackers::Cuts Attackers::WaitForEnd() {
  Cuts all;
  for (LeaseClientProcess& process : processes_) {
    Cuts own;
    std::istringstream line(process.ReadLine());
    TENURE_CHECK(line >> own.count >> own.median_us >> own.longest_us);
    all.count += own.count;
    all.median_us = std::max(all.median_us, own.median_us);
    all.longest_us = std::max(all.longest_us, own.longest_us);
  }
  return all;
}

void Attackers::Kill() {
  for (const LeaseClientProcess& process : processes_) kill(process.pid(), SIGKILL);
}

}  // namespace tenure::testing

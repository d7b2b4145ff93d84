// Clients that attack the daemon, each in a process of its own.
#ifndef TESTS_BENCHMARK_ATTACK_H_
#define TESTS_BENCHMARK_ATTACK_H_

#include <deque>
#include <string>
#include <vector>

#include "tests/support/lease_client_process.h"

namespace tenure::testing {

// The attacks by name:
//   spin         uses a processor and does not call the daemon: the load of any busy neighbour
//   reset        opens streams and resets them at once
//   header       sends a header that never ends
//   unread       sends requests and does not read the answers, or reads a few bytes a second
//   idle         opens 5000 connections, sends nothing more on them, closes them, begins again
//   descriptors  opens connections until one is refused, keeps those it has, and tries again
// An attacker whose connection is cut connects again at once.

// Runs one attack; `words` are NAME SOCKET SECONDS. Prints "begun", attacks for that long, prints
// the result, and keeps its connections until it is killed. Returns the exit code: 2 for wrong
// words.
int Attack(const std::vector<std::string>& words);

// Several processes that attack together. The destructor kills those that still run.
//
// Thread safety: thread-compatible.
class Attackers {
 public:
  // How long the attacking connections lasted: from their first byte to their end, or until now if
  // they are still open.
  struct Cuts {
    size_t count = 0;
    double median_us = 0;  // of the attacker whose connections lasted longer
    double longest_us = 0;
  };

  // Returns when all have begun.
  Attackers(const std::string& name, const std::string& socket, int seconds);

  // Waits until the attack has ended.
  Cuts WaitForEnd();
  // Kills all processes and does not wait for their ends.
  void Kill();

 private:
  std::deque<LeaseClientProcess> processes_;
};

}  // namespace tenure::testing

#endif  // TESTS_BENCHMARK_ATTACK_H_

// Clients that mean harm, each in a process of its own.
#ifndef TESTS_BENCHMARK_ATTACK_H_
#define TESTS_BENCHMARK_ATTACK_H_

#include <deque>
#include <string>
#include <vector>

#include "tests/support/lease_client_process.h"

namespace tenure::testing {

// The attacks by name:
//   spin         uses a processor and leaves the daemon alone: what any busy neighbour does
//   reset        opens streams and takes them back at once
//   header       sends a header without end
//   unread       asks and reads no answers, every other time a few bytes a second
//   idle         opens 5000 connections, says nothing more on them, closes them, begins again
//   descriptors  opens connections until it is turned away, keeps those it got, and goes on
// Who is cut comes again at once.

// The attacker's side: `words` are NAME SOCKET SECONDS. Says "begun", attacks for that long, says
// how that went, and keeps what it has until it is killed. The exit code: 2 for wrong words.
int Attack(const std::vector<std::string>& words);

// Some processes that attack together. Killed, at the latest, by the destructor.
//
// Thread safety: thread-compatible.
class Attackers {
 public:
  // How long connections lasted that offended, from their first byte to their end, or to now where
  // they are still open.
  struct Cuts {
    size_t count = 0;
    double median_us = 0;  // of the attacker whose connections lasted longer
    double longest_us = 0;
  };

  // Returns when all have begun.
  Attackers(const std::string& name, const std::string& socket, int seconds);

  // Waits until their time is over.
  Cuts WaitForEnd();
  // Kills all, without waiting for their ends.
  void Kill();

 private:
  std::deque<LeaseClientProcess> processes_;
};

}  // namespace tenure::testing

#endif  // TESTS_BENCHMARK_ATTACK_H_

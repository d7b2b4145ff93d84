// A daemon under its keeper that dies at the call that a test names.
#ifndef TESTS_FAULTS_MORTAL_DAEMON_H_
#define TESTS_FAULTS_MORTAL_DAEMON_H_

#include <cstdint>
#include <optional>
#include <string>

#include "tests/faults/death_injector.h"
#include "tests/support/kept_daemon.h"

namespace tenure::testing {

// Thread safety: thread-compatible.
class MortalDaemon {
 public:
  MortalDaemon();
  ~MortalDaemon();
  MortalDaemon(const MortalDaemon&) = delete;
  MortalDaemon& operator=(const MortalDaemon&) = delete;

  KeptDaemon& operator*() { return *daemon_; }
  KeptDaemon* operator->() { return &*daemon_; }

  // Makes the daemon die at the n-th call of this kind, and again at the `then`-th call after that.
  void Arm(MortalCall call, Moment moment, int64_t nth, int64_t then = 0);
  void Disarm() { control_->call = MortalCall::kNone; }
  // The number of deaths since Arm.
  uint64_t met() const { return control_->met; }

 private:
  const std::string file_;
  DeathControl* control_ = nullptr;
  std::optional<KeptDaemon> daemon_;
};

}  // namespace tenure::testing

#endif  // TESTS_FAULTS_MORTAL_DAEMON_H_

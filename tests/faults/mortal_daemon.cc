#include "tests/faults/mortal_daemon.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "common/check.h"

namespace tenure::testing {

MortalDaemon::MortalDaemon() : file_(::testing::TempDir() + "/deaths-" + std::to_string(getpid())) {
  const int file = open(file_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  TENURE_CHECK(file >= 0 && ftruncate(file, sizeof(DeathControl)) == 0);
  void* const shared =
      mmap(nullptr, sizeof(DeathControl), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  TENURE_CHECK(shared != MAP_FAILED);
  control_ = static_cast<DeathControl*>(shared);
  close(file);
  daemon_.emplace(TestDaemon::Options{
      .environment = {"LD_PRELOAD=" + ProgramFolder() + "/libtenure_death_injector.so",
                      "TENURE_DEATH_FILE=" + file_}});
}

MortalDaemon::~MortalDaemon() {
  Disarm();
  daemon_.reset();
  munmap(control_, sizeof(DeathControl));
  unlink(file_.c_str());
}

void MortalDaemon::Arm(MortalCall call, Moment moment, int64_t nth, int64_t then) {
  Disarm();
  control_->moment = moment;
  control_->countdown = nth;
  control_->then = then;
  control_->met = 0;
  control_->call = call;
}

}  // namespace tenure::testing

// What the death injector and the test that commands it share: a file that all lives of a daemon
// map.
#ifndef TESTS_FAULTS_DEATH_INJECTOR_H_
#define TESTS_FAULTS_DEATH_INJECTOR_H_

#include <atomic>
#include <cstdint>

namespace tenure::testing {

enum class MortalCall : int {
  kNone = 0,
  kJournalWrite,  // write(2) to the journal
  kStore,         // sendmsg(2) that gives the supervisor a descriptor
  kStoreRemove,   // sendmsg(2) that takes one back
};

enum class Moment : int {
  kBefore,   // nothing of the call happens
  kMiddle,   // a part of the bytes is written; of a message that is none
  kAfter,    // all of it happened, and nobody was told
  kNowhere,  // nobody dies: the call says that it has happened, and has not
};

struct DeathControl {
  std::atomic<MortalCall> call;  // what is counted; written last
  std::atomic<Moment> moment;
  // Counted down by every life: whoever reaches 0 dies, so that it happens once.
  std::atomic<int64_t> countdown;
  // The countdown from that death on; 0: there is no second one.
  std::atomic<int64_t> then;
  std::atomic<uint64_t> met;  // deaths, or calls that happened nowhere
};

}  // namespace tenure::testing

#endif  // TESTS_FAULTS_DEATH_INJECTOR_H_

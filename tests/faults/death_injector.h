// The commands of a test to the death injector, in a file that all lives of a daemon map.
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
  kMiddle,   // a part of the bytes is written; a message is not sent
  kAfter,    // the call has happened, and its caller does not learn that
  kNowhere,  // no process dies: the call reports success and has not happened
};

struct DeathControl {
  std::atomic<MortalCall> call;  // what is counted; written last
  std::atomic<Moment> moment;
  // Counted down by every life. The life that reaches 0 dies, so exactly one does.
  std::atomic<int64_t> countdown;
  // The countdown from that death on; 0: there is no second one.
  std::atomic<int64_t> then;
  std::atomic<uint64_t> met;  // deaths, or calls that happened nowhere
};

}  // namespace tenure::testing

#endif  // TESTS_FAULTS_DEATH_INJECTOR_H_

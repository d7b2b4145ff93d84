// The control block of the death injector: a file that the test and each daemon process map.
#ifndef TESTS_FAULTS_DEATH_INJECTOR_H_
#define TESTS_FAULTS_DEATH_INJECTOR_H_

#include <atomic>
#include <cstdint>

namespace tenure::testing {

enum class MortalCall : int {
  kNone = 0,
  kJournalWrite,  // write(2) to the journal
  kStore,         // sendmsg(2) that gives the supervisor a descriptor
  kStoreRemove,   // sendmsg(2) that removes a descriptor from the supervisor
};

enum class Moment : int {
  kBefore,   // nothing of the call happens
  kMiddle,   // part of the bytes is written; for a message, none
  kAfter,    // the whole call happened, but it does not return
  kNowhere,  // no death: the call reports success and did not happen
};

struct DeathControl {
  std::atomic<MortalCall> call;  // what is counted; written last
  std::atomic<Moment> moment;
  // Every daemon process counts it down; the one that reaches 0 dies, so that it happens once.
  std::atomic<int64_t> countdown;
  // The countdown after that death; 0: there is no second death.
  std::atomic<int64_t> then;
  std::atomic<uint64_t> met;  // deaths, or calls of kNowhere
};

}  // namespace tenure::testing

#endif  // TESTS_FAULTS_DEATH_INJECTOR_H_

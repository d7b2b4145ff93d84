// Loaded before everything else into a daemon under its keeper (LD_PRELOAD): ends the daemon's
// process by SIGKILL at its n-th write to the journal, or its n-th message to the keeper's store.
// The file that TENURE_DEATH_FILE names holds the control block.

#include "tests/faults/death_injector.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdarg>
#include <cstdio>
#include <string_view>

#include "tests/faults/preload.h"

namespace tenure::testing {
namespace {

DeathControl* control = nullptr;

__attribute__((constructor)) void Load() {
  control = MapControl<DeathControl>("TENURE_DEATH_FILE");
}

bool Counts(MortalCall call) { return control != nullptr && control->call.load() == call; }

// Whether this call is the one at which the process dies.
bool IsTheOne() {
  if (control->countdown.fetch_sub(1) != 1) return false;
  control->countdown.store(control->then.exchange(0));
  control->met.fetch_add(1);
  return true;
}

[[noreturn]] void Die() {
  kill(getpid(), SIGKILL);
  while (true) pause();
}

bool IsJournal(int file) {
  std::array<char, 32> link = {};
  std::snprintf(link.data(), link.size(), "/proc/self/fd/%d", file);
  std::array<char, 512> path;
  const ssize_t length = readlink(link.data(), path.data(), path.size());
  if (length <= 0) return false;
  const std::string_view name(path.data(), static_cast<size_t>(length));
  return name.ends_with("/journal") || name.ends_with("/journal.new");
}

// The kind of this message to the store; kNone for all others.
MortalCall KindOf(const msghdr* message) {
  if (message == nullptr || message->msg_iovlen < 1) return MortalCall::kNone;
  const std::string_view text(static_cast<const char*>(message->msg_iov[0].iov_base),
                              message->msg_iov[0].iov_len);
  if (text.starts_with("FDSTOREREMOVE=1")) return MortalCall::kStoreRemove;
  return text.starts_with("FDSTORE=1") ? MortalCall::kStore : MortalCall::kNone;
}

}  // namespace
}  // namespace tenure::testing

using tenure::testing::control;
using tenure::testing::Counts;
using tenure::testing::Die;
using tenure::testing::IsTheOne;
using tenure::testing::Moment;
using tenure::testing::MortalCall;

extern "C" {

ssize_t write(int file, const void* bytes, size_t count) {
  static const auto next = tenure::testing::Next<decltype(&write)>("write");
  if (!Counts(MortalCall::kJournalWrite) || !tenure::testing::IsJournal(file) || !IsTheOne()) {
    return next(file, bytes, count);
  }
  switch (control->moment.load()) {
    case Moment::kBefore:
      break;
    case Moment::kMiddle:
      next(file, bytes, count / 2);
      break;
    case Moment::kAfter:
      next(file, bytes, count);
      break;
    case Moment::kNowhere:
      return static_cast<ssize_t>(count);
  }
  Die();
}

// The daemon defines sendmsg itself and makes the system call with syscall(2).
long syscall(long number, ...) noexcept {
  va_list list;
  va_start(list, number);
  long words[6];
  for (long& word : words) word = va_arg(list, long);
  va_end(list);
  static const auto next = tenure::testing::Next<long (*)(long, ...)>("syscall");
  const auto go_on = [&] {
    return next(number, words[0], words[1], words[2], words[3], words[4], words[5]);
  };
  if (control == nullptr || number != SYS_sendmsg) return go_on();
  const auto* const message = reinterpret_cast<const msghdr*>(words[1]);
  const MortalCall kind = tenure::testing::KindOf(message);
  if (kind == MortalCall::kNone || !Counts(kind) || !IsTheOne()) return go_on();
  const Moment moment = control->moment.load();
  if (moment == Moment::kNowhere) return static_cast<long>(message->msg_iov[0].iov_len);
  if (moment == Moment::kAfter) go_on();
  Die();
}

}  // extern "C"

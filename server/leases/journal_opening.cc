#include "server/leases/journal_opening.h"

#include <unistd.h>

#include <fstream>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include <spdlog/spdlog.h>

#include "common/unique_fd.h"
#include "common/version.h"
#include "server/journal/journal_file.h"
#include "server/journal/journal_fold.h"

namespace tenure::server {
namespace {

// The kernel's random name for this boot of the host.
std::string BootId() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

// Without a journal the epochs of earlier lives are unknown, and their clients still ask with the
// ids of that time. A number at random is most probably none of them.
Epoch RandomEpoch() {
  std::random_device random;
  return static_cast<Epoch>(std::uniform_int_distribution<unsigned>(1, 0xffff)(random));
}

// The next after the last life's that no id in the state carries. So no id of the last 65 000 lives
// is taken for one of this life.
Epoch NextEpoch(const JournalState& state) {
  const std::set<Epoch> taken = EpochsIn(state);
  auto epoch = static_cast<Epoch>(state.opening().epoch());
  do {
    ++epoch;  // 0xffff is followed by 0, which is no epoch
  } while (epoch == 0 || taken.contains(epoch));
  return epoch;
}

// Whether an operator has put an empty file in the place of the journal, to give up what it told
// of. No daemon leaves one: a journal is moved to its path with its first record in it.
bool IsEmptied(const std::string& path) {
  const absl::StatusOr<UniqueFd> fd = OpenJournalFile(path);
  if (!fd.ok()) return false;
  const absl::StatusOr<uint64_t> size = FileSize(fd->get());
  return size.ok() && *size == 0;
}

journal::Opening OpeningOf(const std::string& device_uuid) {
  journal::Opening opening;
  opening.set_daemon_version(std::string(kVersion));
  opening.set_boot_id(BootId());
  opening.set_device_uuid(device_uuid);
  return opening;
}

}  // namespace

std::string JournalPath(absl::string_view socket) {
  if (absl::ConsumeSuffix(&socket, "grpc.sock")) return absl::StrCat(socket, "journal");
  return absl::StrCat(socket, ".journal");
}

absl::StatusOr<EarlierLife> ReadEarlierLife(const std::string& path, const std::string& device_uuid,
                                            KeptForStart kept) {
  EarlierLife before;
  before.opening = OpeningOf(device_uuid);
  absl::StatusOr<JournalReading> reading = ReadJournal(path, before.opening);
  const absl::Status& status = reading.status();
  if (reading.ok()) {
    before.state = std::move(reading->state);
    before.next_epoch = NextEpoch(before.state);
  } else if (IsEmptied(path) || absl::IsFailedPrecondition(status) ||
             (kept.memory == 0 &&
              (absl::IsNotFound(status) || (absl::IsInvalidArgument(status) && kept.claim)))) {
    if (IsEmptied(path)) {
      spdlog::warn("journal {} was emptied: the memory that it told of is given up", path);
    } else if (!absl::IsNotFound(status)) {
      spdlog::info("{}; beginning a new journal", std::string(status.message()));
    }
    before.begin = true;
    before.next_epoch = RandomEpoch();
  } else if (absl::IsNotFound(status)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the supervisor keeps ", kept.memory,
        " file descriptors of memory, but there is no journal ", path,
        " that tells whose it is: start again with the --socket of before. To give that "
        "memory up, put an empty file there"));
  } else if (absl::IsInvalidArgument(status)) {
    return absl::InvalidArgumentError(absl::StrCat(
        status.message(),
        ": memory of that device is kept, or may be by the service that wrote the "
        "journal. Start again with the --device of before, or stop that service first. To give the "
        "memory up, put an empty file there"));
  } else {
    return status;
  }
  before.opening.set_epoch(before.next_epoch);
  return before;
}

absl::StatusOr<std::unique_ptr<Journal>> ContinueJournal(const std::string& path,
                                                         const EarlierLife& before) {
  return before.begin ? Journal::Create(path, before.opening) : Journal::Open(path, before.opening);
}

absl::StatusOr<EarlierLife> BeginWithoutJournal(const std::string& path) {
  const absl::Status status = ReadJournal(path, OpeningOf("")).status();
  if (absl::IsFailedPrecondition(status)) {
    unlink(path.c_str());
  } else if (!absl::IsNotFound(status) && !IsEmptied(path)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "there is a journal at ", path,
        ": a service keeps memory of kind VMM_FD, or kept it. Start that service again "
        "(`systemctl start tenured@N`, or `tenured --keeper`); without a supervisor this daemon "
        "would make that memory unusable. If the service is gone for good, remove the file"));
  }
  EarlierLife before;
  before.next_epoch = RandomEpoch();
  return before;
}

std::set<Epoch> EpochsIn(const JournalState& state) {
  std::set<Epoch> epochs = {static_cast<Epoch>(state.opening().epoch())};
  for (const auto& [id, session] : state.sessions()) {
    epochs.insert(EpochOf(id));
    for (const auto& [allocation, block] : session.blocks) {
      epochs.insert(EpochOf(allocation));
      epochs.insert(EpochOf(block.region_id()));
    }
  }
  for (const auto& [place, segment] : state.segments()) {
    for (const auto& [id, attachment] : segment.attachments) epochs.insert(EpochOf(id));
    for (const journal::Segment::Block& block : segment.segment.blocks()) {
      epochs.insert(EpochOf(block.region_id()));
    }
  }
  return epochs;
}

}  // namespace tenure::server

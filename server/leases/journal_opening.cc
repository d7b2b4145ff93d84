#include "server/leases/journal_opening.h"

#include <unistd.h>

#include <fstream>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include <spdlog/spdlog.h>

#include "common/status_macros.h"
#include "common/version.h"
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

// At random: without a journal the epochs of earlier lives are unknown, and their clients still ask
// with the ids of that time.
Epoch NewEpoch(const std::set<Epoch>& taken) {
  std::random_device random;
  while (true) {
    const auto epoch =
        static_cast<Epoch>(std::uniform_int_distribution<unsigned>(1, 0xffff)(random));
    if (!taken.contains(epoch)) return epoch;
  }
}

}  // namespace

std::string JournalPath(absl::string_view socket) {
  if (absl::ConsumeSuffix(&socket, "grpc.sock")) return absl::StrCat(socket, "journal");
  return absl::StrCat(socket, ".journal");
}

absl::StatusOr<OpenedJournal> OpenJournal(const std::string& path, const std::string& device_uuid,
                                          bool survives) {
  OpenedJournal opened;
  if (!survives) {
    unlink(path.c_str());
    opened.epoch = NewEpoch(/*taken=*/{});
    return opened;
  }
  journal::Opening opening;
  opening.set_daemon_version(std::string(kVersion));
  opening.set_boot_id(BootId());
  opening.set_device_uuid(device_uuid);
  absl::StatusOr<JournalReading> reading = ReadJournal(path, opening);
  const bool of_another_boot = absl::IsFailedPrecondition(reading.status());
  if (of_another_boot) {
    spdlog::info("{}; beginning a new one", std::string(reading.status().message()));
  }
  const bool begin = of_another_boot || absl::IsNotFound(reading.status());
  // Any other error leaves the file alone: an operator may move it away, or start the newer daemon
  // again.
  if (!begin) {
    TENURE_RETURN_IF_ERROR(reading.status());
    opened.before = std::move(reading->state);
  }
  // The epoch is part of the opening record, so the file is read before it is opened for writing.
  opened.epoch = NewEpoch(EpochsIn(opened.before));
  opening.set_epoch(opened.epoch);
  TENURE_ASSIGN_OR_RETURN(opened.journal,
                          begin ? Journal::Create(path, opening) : Journal::Open(path, opening));
  return opened;
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

// Records for tests of the journal, and the print of a state.
#ifndef TESTS_SERVER_JOURNAL_JOURNAL_SCENE_H_
#define TESTS_SERVER_JOURNAL_JOURNAL_SCENE_H_

#include <cstdint>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "server/journal/journal_state.h"

namespace tenure::server {

journal::Opening OpeningOfLife(uint32_t epoch);

journal::Record Opened(const journal::Opening& opening);
journal::Record SessionOpened(uint64_t session);
journal::Record SessionEnded(uint64_t session);
// 1 KiB of a region of 2 MiB.
journal::Record Granted(uint64_t session, uint64_t allocation, uint64_t request, uint64_t region,
                        uint64_t offset);
journal::Record Freed(uint64_t session, uint64_t allocation, uint64_t request);
journal::Record Claimed(const std::string& name, uint32_t uid, uint64_t session);
journal::Record ClaimEnded(const std::string& name, uint32_t uid);
// One block, which was made by Granted(session, allocation, _, region, 0), with one tensor.
journal::Record Published(const std::string& name, uint32_t uid, uint64_t session,
                          uint64_t allocation, uint64_t region);
journal::Record Unpublished(const std::string& name, uint32_t uid);
journal::Record Attached(const std::string& name, uint32_t uid, uint64_t session,
                         uint64_t attachment);
journal::Record Detached(uint64_t session, uint64_t attachment);

// A history with every kind of record, in which every record is possible where it stands.
std::vector<journal::Record> EveryKind();

// All that a state holds, as bytes: equal exactly for equal states.
std::string Print(const JournalState& state);

// Print of the state after each number of these records, from 0 on.
std::vector<std::string> PrintsOfPrefixes(const std::vector<journal::Record>& records);

// A file of these bytes, new, that only its owner may write.
void PutFile(const std::string& path, const std::string& bytes);

// A file of these records.
std::string FileOf(const std::vector<journal::Record>& records);
// Where in that file each record ends, after the magic's end.
std::vector<size_t> EndsIn(const std::vector<journal::Record>& records);

// Makes records that are possible one after another, without an end.
class History {
 public:
  explicit History(uint64_t seed) : random_(seed) {}
  // The first is an opening.
  journal::Record Next();

 private:
  struct Block {
    uint64_t session;
    uint64_t allocation;
    uint64_t region;
  };
  uint64_t Pick(uint64_t below) { return random_() % below; }
  journal::Record NextOfBlocks();

  std::mt19937_64 random_;
  uint64_t last_id_ = 0;
  std::vector<uint64_t> sessions_;
  std::vector<Block> blocks_;
  std::vector<std::string> segments_;
  bool open_ = false;
};

}  // namespace tenure::server

#endif  // TESTS_SERVER_JOURNAL_JOURNAL_SCENE_H_

// The ranges of live blocks in their regions, as the journal has them.
#ifndef SERVER_JOURNAL_JOURNAL_REGIONS_H_
#define SERVER_JOURNAL_JOURNAL_REGIONS_H_

#include <cstdint>
#include <map>

#include "absl/strings/string_view.h"

#include "server/identity/ids.h"

namespace tenure::server {

// The ranges of live blocks in their regions.
//
// Invariants:
//   1. every range lies in its region, is not empty, and overlaps no other;
//   2. all ranges of a region have one owner: a session, or a segment (kSegments);
//   3. a region is known exactly while it has a range.
// Thread safety: thread-compatible.
// Errors: Take returns in words which invariant the range would break, and then changes nothing; an
//     empty string is success. The numbers come from a file, so Take checks each of them.
class JournalRegions {
 public:
  static constexpr SessionId kSegments = 0;

  struct Range {
    RegionId region = 0;
    uint64_t region_bytes = 0;
    uint64_t offset_bytes = 0;
    uint64_t size_bytes = 0;
  };

  // Enters a range.
  absl::string_view Take(SessionId owner, const Range& range);

  // Removes a range. REQUIRES: it was taken, by the same numbers.
  void Release(const Range& range);

  // Whether the range is the only one in its region and begins at the region's base.
  bool IsAlone(const Range& range) const;

 private:
  struct Region {
    uint64_t bytes = 0;
    SessionId owner = kSegments;
    std::map<uint64_t, uint64_t> ends;  // by offset
  };

  std::map<RegionId, Region> regions_;
};

}  // namespace tenure::server

#endif  // SERVER_JOURNAL_JOURNAL_REGIONS_H_

#include "server/journal/journal_regions.h"

#include "common/check.h"

namespace tenure::server {

absl::string_view JournalRegions::Take(SessionId owner, const Range& range) {
  if (range.region == 0) return "names no region";
  // The size first, so that the subtraction cannot wrap; the sum of offset and size could.
  if (range.size_bytes == 0 || range.size_bytes > range.region_bytes ||
      range.offset_bytes > range.region_bytes - range.size_bytes)
    return "puts a block outside its region";
  const auto known = regions_.find(range.region);
  if (known == regions_.end()) {
    Region& region = regions_[range.region];
    region.bytes = range.region_bytes;
    region.owner = owner;
    region.ends.emplace(range.offset_bytes, range.offset_bytes + range.size_bytes);
    return {};
  }
  Region& region = known->second;
  if (region.owner != owner) return "puts a block into a region that another owner has";
  if (region.bytes != range.region_bytes) return "gives a region another size than it had";
  const uint64_t end = range.offset_bytes + range.size_bytes;
  // The ranges do not overlap each other, so only the two neighbours can overlap a new one.
  const auto after = region.ends.lower_bound(range.offset_bytes);
  if (after != region.ends.end() && after->first < end) return "lets two blocks overlap";
  if (after != region.ends.begin() && std::prev(after)->second > range.offset_bytes)
    return "lets two blocks overlap";
  region.ends.emplace_hint(after, range.offset_bytes, end);
  return {};
}

void JournalRegions::Release(const Range& range) {
  const auto region = regions_.find(range.region);
  TENURE_CHECK(region != regions_.end());
  TENURE_CHECK(region->second.ends.erase(range.offset_bytes) == 1);
  // Invariant 3. When a publication moves a region to the segments, this is where it loses its
  // owner.
  if (region->second.ends.empty()) regions_.erase(region);
}

bool JournalRegions::IsAlone(const Range& range) const {
  const auto region = regions_.find(range.region);
  return range.offset_bytes == 0 && region != regions_.end() && region->second.ends.size() == 1 &&
         region->second.ends.contains(0);
}

}  // namespace tenure::server

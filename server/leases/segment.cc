#include "server/leases/segment.h"

#include <algorithm>

namespace tenure::server {

Bytes Segment::size() const {
  Bytes sum;
  for (const SegmentBlock& block : blocks) sum += block.size;
  return sum;
}

Bytes Segment::region_bytes() const {
  Bytes sum;
  for (const SegmentBlock& block : blocks) sum += block.region.size();
  return sum;
}

bool Segment::Admits(const SegmentKey& key, Tenant tenant) const {
  return tenant.uid == key.owner ||
         std::find(notes.allowed.begin(), notes.allowed.end(), tenant.uid) != notes.allowed.end();
}

}  // namespace tenure::server

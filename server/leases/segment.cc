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

bool MayAttach(Tenant tenant, const SegmentKey& key, const std::vector<uid_t>& allowed) {
  return tenant.uid == key.owner ||
         std::find(allowed.begin(), allowed.end(), tenant.uid) != allowed.end();
}

}  // namespace tenure::server

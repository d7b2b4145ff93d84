// A segment's description between the registry's form and the journal's.
#ifndef SERVER_LEASES_SEGMENT_RECORD_H_
#define SERVER_LEASES_SEGMENT_RECORD_H_

#include "server/journal/journal_frame.h"
#include "server/leases/segment.h"

namespace tenure::server {

void ToJournal(const SegmentTensor& from, journal::Segment::Tensor& to);
SegmentTensor FromJournal(const journal::Segment::Tensor& from);

// The whole segment, with its name, its description and the place of its blocks.
void ToJournal(const SegmentKey& key, const Segment& from, journal::Segment& to);
// The description alone: the blocks' regions come from their descriptors.
SegmentNotes NotesFromJournal(const journal::Segment& from);

}  // namespace tenure::server

#endif  // SERVER_LEASES_SEGMENT_RECORD_H_

#include "server/leases/segment_record.h"

namespace tenure::server {

void ToJournal(const SegmentTensor& from, journal::Segment::Tensor& to) {
  to.set_name(from.name);
  to.set_dtype(from.dtype);
  to.mutable_shape()->Add(from.shape.begin(), from.shape.end());
  to.set_block(from.block);
  to.set_offset_bytes(from.offset.value());
  to.set_size_bytes(from.size.value());
}

SegmentTensor FromJournal(const journal::Segment::Tensor& from) {
  return SegmentTensor{from.name(),
                       from.dtype(),
                       {from.shape().begin(), from.shape().end()},
                       from.block(),
                       Bytes(from.offset_bytes()),
                       Bytes(from.size_bytes())};
}

void ToJournal(const SegmentKey& key, const Segment& from, journal::Segment& to) {
  to.set_name(key.name);
  to.set_uid(key.owner);
  to.mutable_allowed_uids()->Add(from.notes->allowed.begin(), from.notes->allowed.end());
  // Digest and tensors are for clients: a session that attaches in the next life gets them as
  // before.
  to.set_digest(from.notes->digest);
  for (const SegmentBlock& block : from.blocks) {
    // By its region's id the next life of the daemon finds the descriptor (DeviceHeap::StoreName).
    journal::Segment::Block& one = *to.add_blocks();
    one.set_region_id(block.region.id());
    one.set_region_bytes(block.region.size().value());
    one.set_size_bytes(block.size.value());
  }
  for (const SegmentTensor& tensor : from.notes->tensors) ToJournal(tensor, *to.add_tensors());
}

SegmentNotes NotesFromJournal(const journal::Segment& from) {
  SegmentNotes notes;
  notes.allowed.assign(from.allowed_uids().begin(), from.allowed_uids().end());
  notes.digest = from.digest();
  for (const journal::Segment::Tensor& tensor : from.tensors()) {
    notes.tensors.push_back(FromJournal(tensor));
  }
  return notes;
}

}  // namespace tenure::server

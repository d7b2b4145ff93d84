// Segments: memory that one process fills and many read, such as the weights of a model.
#ifndef CLIENT_SEGMENT_H_
#define CLIENT_SEGMENT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

#include "client/device_buffer.h"
#include "client/segment_layout.h"
#include "common/bytes.h"
#include "common/export.h"

namespace tenure {

class Session;
struct Attachment;

// The contents of a segment that is to be published.
struct SegmentContents {
  // 1 to 64 (kMaxSegmentBlocks), allocated with Placement::kDirect, all of the same memory kind.
  std::vector<DeviceBuffer> blocks;
  // At most 8192 (kMaxSegmentTensors).
  std::vector<SegmentTensor> tensors;
  // 32 bytes (kDigestBytes), as DigestOf computes them over the first requested() bytes of each
  // block.
  std::string digest;
};

struct PublishOptions {
  // Users that may attach besides the caller's own; at most 64 (kMaxAllowedUids).
  std::vector<uint32_t> allowed_uids = {};
};

struct LoadOptions {
  // As in PublishOptions.
  std::vector<uint32_t> allowed_uids = {};
  // How long AttachOrLoad waits while another process loads.
  absl::Duration wait = absl::Minutes(10);
};

// One attachment to a segment. Its blocks are mapped as long as it lives. Move-only; detaches when
// it is destroyed. Empty when default-constructed, moved from or detached.
//
// Blocks of kind VMM_FD are mapped for reading only: a copy or kernel that writes there fails. This
// protects against mistakes, not against an attack, because a process can change its own mapping.
// The driver maps blocks of kind CUDA_IPC for writing as well, so there the readers have to agree
// not to write.
//
// Invariants: As long as this lives the pointers stay valid and the contents unchanged, also after
// the death of the daemon and after Unpublish.
// Owns: the attachment, and a share in its client's session.
// Thread safety: thread-compatible. Different segments may be used by different threads.
// Errors: Verify and Detach name theirs. No other call fails: an empty segment has no blocks.
class TENURE_EXPORT Segment {
 public:
  Segment();
  Segment(Segment&& other) noexcept;
  Segment& operator=(Segment&& other) noexcept;
  // Unmaps the blocks. Never waits for an RPC: the detach is queued.
  ~Segment();

  explicit operator bool() const { return session_ != nullptr; }
  const std::string& name() const { return name_; }
  absl::Span<const SegmentBlock> blocks() const;
  absl::Span<const SegmentTensor> tensors() const;
  // Null when there is no tensor of this name. Takes time linear in the number of tensors.
  const SegmentTensor* Find(absl::string_view tensor) const;
  // The bytes of all blocks.
  Bytes size() const;
  // 32 bytes (kDigestBytes), as the publisher gave them; empty when this is.
  const std::string& digest() const;
  // Whether the contents, and this attachment, outlive the daemon's process.
  bool survives_daemon() const;

  // Copies the contents back to the host, computes their digest and compares it with digest().
  // Reads every byte, with the threads and the host memory that DigestOf names. Changes nothing.
  // Errors: DATA_LOSS: they differ. FAILED_PRECONDITION: this is empty, the process maps nothing,
  // or it is a forked child. Else those of the driver.
  absl::Status Verify() const;

  // Unmaps the blocks, ends the attachment and waits for the daemon's answer. Empty afterwards,
  // whatever the answer is. Idempotent. OK also when the segment's owner has ended the segment.
  // Errors: as Client.
  absl::Status Detach();

 private:
  friend class Client;
  Segment(std::shared_ptr<Session> session, std::string name, Attachment attachment);

  void Discard();

  std::shared_ptr<Session> session_;
  std::unique_ptr<Attachment> attachment_;
  std::string name_;
};

}  // namespace tenure

#endif  // CLIENT_SEGMENT_H_

// Memory that many processes read: weights that one of them has loaded.
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
#include "client/export.h"
#include "client/segment_layout.h"
#include "common/bytes.h"

namespace tenure {

class Session;
struct Attachment;

// What is published under a name.
struct SegmentContents {
  // 1 to 64, allocated with Placement::kDirect and of one kind.
  std::vector<DeviceBuffer> blocks;
  // At most 8192.
  std::vector<SegmentTensor> tensors;
  // 32 bytes, as DigestOf computes them over the blocks' requested() bytes.
  std::string digest;
};

struct PublishOptions {
  // Who may attach beside the caller's own user; at most 64.
  std::vector<uint32_t> allowed_uids = {};
};

struct LoadOptions {
  std::vector<uint32_t> allowed_uids = {};
  // How long to wait while another process loads.
  absl::Duration wait = absl::Minutes(10);
};

// One attachment to a segment: its blocks are mapped while it lives. Move-only; detaches when it
// goes. Empty when made by default, moved from or detached.
//
// Blocks of kind VMM_FD are mapped for reading: a copy or kernel that writes there fails, which
// protects from accidents and from nobody who means it. The driver maps blocks of kind CUDA_IPC for
// writing as well: there, that nobody writes is an agreement and nothing more.
//
// Invariants: the pointers stay valid, and the bytes what they are, while this lives, also when the
// daemon dies or the segment's owner takes it back meanwhile.
// Owns: the attachment, and a share in its client's session.
// Thread safety: thread-compatible. Different segments may be used by different threads.
class TENURE_EXPORT Segment {
 public:
  Segment();
  Segment(Segment&& other) noexcept;
  Segment& operator=(Segment&& other) noexcept;
  // Unmaps, and never waits for an RPC: the end of the attachment is queued.
  ~Segment();

  explicit operator bool() const { return session_ != nullptr; }
  const std::string& name() const { return name_; }
  absl::Span<const SegmentBlock> blocks() const;
  absl::Span<const SegmentTensor> tensors() const;
  // Null when it has no tensor of this name.
  const SegmentTensor* Find(absl::string_view tensor) const;
  // Of all blocks.
  Bytes size() const;
  // As its publisher said; 32 bytes.
  const std::string& digest() const;
  // Whether the contents, and this attachment, outlive the daemon's process.
  bool survives_daemon() const;

  // Reads everything back and compares it with the digest.
  // Errors: DATA_LOSS: it differs. FAILED_PRECONDITION: empty, a process that maps nothing, a
  // forked child. Else the driver's.
  absl::Status Verify() const;

  // Unmaps, ends the attachment and waits for the daemon's answer. Empty afterwards, whatever the
  // answer is. Idempotent; OK also when the segment's owner has taken it back before.
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

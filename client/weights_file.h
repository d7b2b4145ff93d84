// Loads a file of weights into the blocks of a segment.
#ifndef CLIENT_WEIGHTS_FILE_H_
#define CLIENT_WEIGHTS_FILE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "client/client.h"
#include "client/export.h"
#include "client/options.h"
#include "client/segment.h"
#include "client/weights/digest.h"
#include "common/bytes.h"
#include "common/unique_fd.h"

namespace tenure {

// A file of weights, and the position of its bytes in a segment. If its name ends in
// ".safetensors", its tensors become the segment's, each at a multiple of 256 bytes (aligned vector
// loads of kernels need up to that), with zeros between them. Any other file becomes one block
// without tensors.
//
// The file is read into a buffer, not mapped. So the bytes that are digested are those that are
// copied, even if another process changes the file, and a file that was truncated meanwhile is an
// error and not a SIGBUS.
//
// Owns: a descriptor of the file.
// Thread safety: immutable after Open; Load may run several times at once.
class TENURE_EXPORT WeightsFile {
 public:
  // Tensors are not split; a larger one has a block of its own.
  static constexpr Bytes kMaxBlock = GiB(16);

  // Reads the header only. A block is at most `max_block` bytes large, unless one tensor is larger.
  // Errors: NOT_FOUND, PERMISSION_DENIED: from the file system. INVALID_ARGUMENT: the file is
  // empty, not a regular file, or named .safetensors without being one.
  static absl::StatusOr<WeightsFile> Open(const std::string& path, Bytes max_block = kMaxBlock);

  // The tensors in order of their offsets in the file. Their pointers are 0.
  const std::vector<SegmentTensor>& tensors() const { return tensors_; }
  // The size of each block.
  const std::vector<Bytes>& blocks() const { return blocks_; }

  // Leases blocks, copies the contents there and computes their digest, on the threads that
  // DigestOf names. The placement in `options` is ignored: it is always direct. Not idempotent:
  // each call leases other blocks. After an error none of them is left. Errors: those of
  // Client::Allocate and DeviceBuffer. DATA_LOSS: the file is shorter than it was.
  absl::StatusOr<SegmentContents> Load(Client& client, AllocateOptions options = {}) const;

 private:
  // A range of the file that lies in one block: a tensor, or all of a plain file.
  struct Part {
    uint32_t block = 0;
    Bytes offset;  // in the block
    Bytes size;
    Bytes from;  // its offset in the file
  };

  explicit WeightsFile(std::string path, UniqueFd fd)
      : path_(std::move(path)), fd_(std::move(fd)) {}

  absl::Status ReadSafetensors(Bytes file_size, Bytes max_block);
  // Chooses the part's block and offset, and extends the blocks.
  void Place(Part& part, Bytes max_block);
  absl::Status ReadPiece(const DigestPiece& piece, char* to) const;
  absl::Status ReadFile(Bytes from, Bytes size, char* to) const;

  std::string path_;
  UniqueFd fd_;
  std::vector<Bytes> blocks_;
  std::vector<Part> parts_;  // in order of block and offset; none is empty
  std::vector<SegmentTensor> tensors_;
};

}  // namespace tenure

#endif  // CLIENT_WEIGHTS_FILE_H_

// Loads a file of weights into the blocks of a segment.
#ifndef CLIENT_WEIGHTS_FILE_H_
#define CLIENT_WEIGHTS_FILE_H_

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "client/client.h"
#include "client/options.h"
#include "client/segment.h"
#include "client/weights/digest.h"
#include "common/bytes.h"
#include "common/export.h"
#include "common/unique_fd.h"

namespace tenure {

// Weights in a file, and the position of their bytes in a segment. If its name ends in
// ".safetensors", its tensors become the segment's, each at a multiple of 256 bytes (aligned vector
// loads of kernels need up to that), with zeros between them. If it ends in
// ".safetensors.index.json", it names the tensors and their files, which lie beside it: they become
// one segment. Any other file becomes one block without tensors.
//
// A file is read into a buffer, not mapped. So the bytes that are digested are those that are
// copied, even if another process changes the file, and a file that was truncated meanwhile is an
// error and not a SIGBUS.
//
// Owns: a descriptor of each file.
// Thread safety: immutable after Open; Load may run several times at once.
class TENURE_EXPORT WeightsFile {
 public:
  // Tensors are not split; a larger one has a block of its own.
  static constexpr Bytes kMaxBlock = GiB(16);

  // Reads headers only. A block is at most `max_block` bytes large, unless one tensor is larger.
  // Errors: NOT_FOUND, PERMISSION_DENIED: from the file system. INVALID_ARGUMENT: the file is
  // empty, not a regular file, named .safetensors without being one, or holds more than a segment
  // may (common/limits.h). The message names the file and the tensor.
  static absl::StatusOr<WeightsFile> Open(const std::string& path, Bytes max_block = kMaxBlock);

  // The tensors in order of their offsets in the file, and the files by name. Their pointers are 0.
  const std::vector<SegmentTensor>& tensors() const { return tensors_; }
  // The size of each block.
  const std::vector<Bytes>& blocks() const { return blocks_; }

  // Leases blocks, copies the contents there and computes their digest, on the threads that
  // DigestOf names. The placement in `options` is ignored: it is always direct. Not idempotent:
  // each call leases other blocks. After an error none of them is left. Errors: those of
  // Client::Allocate and DeviceBuffer. DATA_LOSS: the file is shorter than it was.
  absl::StatusOr<SegmentContents> Load(Client& client, AllocateOptions options = {}) const;

 private:
  struct File {
    std::string path;
    UniqueFd fd;
    Bytes size;
  };
  // A range of a file that lies in one block: a tensor, or all of a plain file.
  struct Part {
    uint32_t block = 0;
    Bytes offset;  // in the block
    Bytes size;
    size_t file = 0;
    Bytes from;  // its offset in the file
  };

  WeightsFile() = default;

  static absl::StatusOr<File> OpenFile(const std::string& path);
  absl::Status ReadIndex(const File& index, Bytes max_block);
  // Takes all tensors of the file, or those that `wanted` names.
  absl::Status ReadSafetensors(File file, const std::set<std::string>* wanted, Bytes max_block);
  // Whether a segment may hold this tensor beside the others.
  absl::Status CheckLimits(const SegmentTensor& tensor) const;
  // Chooses the part's block and offset, and extends the blocks.
  void Place(Part& part, Bytes max_block);
  absl::Status ReadPiece(const DigestPiece& piece, char* to) const;
  static absl::Status ReadFile(const File& file, Bytes from, Bytes size, char* to);

  std::vector<File> files_;
  std::vector<Bytes> blocks_;
  std::vector<Part> parts_;  // in order of block and offset; none is empty
  std::vector<SegmentTensor> tensors_;
};

}  // namespace tenure

#endif  // CLIENT_WEIGHTS_FILE_H_

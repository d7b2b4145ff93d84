// Files whose contents become a segment.
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

// A file of weights, and where its bytes go in a segment. One whose name ends in ".safetensors"
// becomes its tensors, each at a multiple of 256 bytes, which is what kernels like best, with zeros
// between them; any other file becomes one block without tensors.
//
// The file is read, not mapped: what was digested is what was copied, whatever others do to the
// file meanwhile, and a file that is cut short is an error and no signal.
// Thread safety: immutable after Open; Load may run several times at once.
class TENURE_EXPORT WeightsFile {
 public:
  // Tensors are not split; a larger one has a block of its own.
  static constexpr Bytes kMaxBlock = GiB(16);

  // Errors: NOT_FOUND, PERMISSION_DENIED: as the file system says. INVALID_ARGUMENT: no regular
  // file, an empty one, or one that is no safetensors file although its name says so.
  static absl::StatusOr<WeightsFile> Open(const std::string& path, Bytes max_block = kMaxBlock);

  // Without pointers.
  const std::vector<SegmentTensor>& tensors() const { return tensors_; }
  const std::vector<Bytes>& blocks() const { return blocks_; }

  // Puts the contents into fresh blocks, on as many threads as the machine has, and digests them on
  // the way. Of `options` the alignment and the kind count; the placement is direct.
  // Errors: those of Client::Allocate and DeviceBuffer; DATA_LOSS: the file is shorter than it was.
  absl::StatusOr<SegmentContents> Load(Client& client, AllocateOptions options = {}) const;

 private:
  // Bytes of the file that lie together.
  struct Part {
    uint32_t block = 0;
    Bytes offset;  // in the block
    Bytes size;
    Bytes from;  // in the file
  };

  explicit WeightsFile(std::string path, UniqueFd fd)
      : path_(std::move(path)), fd_(std::move(fd)) {}

  absl::Status ReadSafetensors(Bytes file_size, Bytes max_block);
  // The part's block and offset are chosen here.
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

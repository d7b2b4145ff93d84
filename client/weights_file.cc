#include "client/weights_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "client/weights/safetensors.h"
#include "common/status_macros.h"

namespace tenure {
namespace {

constexpr Bytes kAlignment = Bytes(256);  // of a tensor in its block

}  // namespace

absl::StatusOr<WeightsFile> WeightsFile::Open(const std::string& path, Bytes max_block) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return absl::ErrnoToStatus(errno, absl::StrCat("open ", path));
  struct stat file = {};
  if (fstat(fd.get(), &file) != 0) return absl::ErrnoToStatus(errno, absl::StrCat("read ", path));
  if (!S_ISREG(file.st_mode) || file.st_size <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is empty, or no regular file: there is nothing to load"));
  }
  const Bytes size(static_cast<uint64_t>(file.st_size));
  WeightsFile weights(path, std::move(fd));
  if (!absl::EndsWith(path, ".safetensors")) {
    weights.blocks_ = {size};
    weights.parts_ = {Part{0, Bytes(0), size, Bytes(0)}};
    return weights;
  }
  const absl::Status read = weights.ReadSafetensors(size, max_block);
  if (!read.ok()) {
    return absl::Status(read.code(), absl::StrCat(path, ": ", read.message()));
  }
  return weights;
}

absl::Status WeightsFile::ReadSafetensors(Bytes file_size, Bytes max_block) {
  std::array<unsigned char, kSafetensorsPrefix.value()> prefix = {};
  // A file that is shorter than the prefix is no safetensors file: not the DATA_LOSS of ReadFile.
  const absl::Status read =
      ReadFile(Bytes(0), kSafetensorsPrefix, reinterpret_cast<char*>(prefix.data()));
  if (!read.ok()) return absl::InvalidArgumentError(read.message());
  TENURE_ASSIGN_OR_RETURN(const Bytes header_size, SafetensorsHeaderSize(prefix, file_size));
  std::string header(header_size.value(), '\0');
  TENURE_RETURN_IF_ERROR(ReadFile(kSafetensorsPrefix, header_size, header.data()));
  const Bytes data_begin = kSafetensorsPrefix + header_size;
  TENURE_ASSIGN_OR_RETURN(const std::vector<FileTensor> tensors,
                          ParseSafetensorsHeader(header, file_size - data_begin));
  for (const FileTensor& tensor : tensors) {
    Part part = {0, Bytes(0), tensor.size, data_begin + tensor.offset};
    Place(part, max_block);
    tensors_.push_back(
        {tensor.name, tensor.dtype, tensor.shape, part.block, part.offset, tensor.size});
    if (tensor.size > Bytes(0)) parts_.push_back(part);
  }
  if (parts_.empty()) return absl::InvalidArgumentError("there is no tensor with any bytes");
  return absl::OkStatus();
}

void WeightsFile::Place(Part& part, Bytes max_block) {
  // This cannot overflow: the tensors are parts of a file, whose size has 63 bits, and the padding
  // adds less than 256 bytes for each.
  const Bytes offset = blocks_.empty() ? Bytes(0) : *RoundUp(blocks_.back(), kAlignment);
  const bool fits = !blocks_.empty() && offset + part.size <= max_block;
  // A tensor without bytes lies at the end of the last block and does not enlarge it.
  if (part.size == Bytes(0) && !blocks_.empty()) {
    part.block = static_cast<uint32_t>(blocks_.size() - 1);
    part.offset = blocks_.back();
    return;
  }
  // A block without bytes, made for an empty first tensor, is used before a new one is begun.
  if (!fits && (blocks_.empty() || blocks_.back() > Bytes(0))) blocks_.emplace_back(0);
  part.block = static_cast<uint32_t>(blocks_.size() - 1);
  part.offset = fits ? offset : Bytes(0);
  blocks_.back() = part.offset + part.size;
}

absl::Status WeightsFile::ReadFile(Bytes from, Bytes size, char* to) const {
  while (size > Bytes(0)) {
    const ssize_t got = pread(fd_.get(), to, size.value(), static_cast<off_t>(from.value()));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, absl::StrCat("read ", path_));
    if (got == 0) {
      return absl::DataLossError(
          absl::StrCat(path_, " ends at ", from.value(), " and was longer when it was opened"));
    }
    to += got;
    from += Bytes(static_cast<uint64_t>(got));
    size -= Bytes(static_cast<uint64_t>(got));
  }
  return absl::OkStatus();
}

absl::Status WeightsFile::ReadPiece(const DigestPiece& piece, char* to) const {
  // Zeros where no part lies: the padding between tensors is part of the digest.
  std::memset(to, 0, piece.size.value());
  const Bytes end = piece.offset + piece.size;
  // The first part that does not end before the piece.
  auto part = std::partition_point(parts_.begin(), parts_.end(), [&](const Part& one) {
    return one.block < piece.block ||
           (one.block == piece.block && one.offset + one.size <= piece.offset);
  });
  for (; part != parts_.end() && part->block == piece.block && part->offset < end; ++part) {
    const Bytes first = std::max(part->offset, piece.offset);
    const Bytes last = std::min(part->offset + part->size, end);
    TENURE_RETURN_IF_ERROR(ReadFile(part->from + (first - part->offset), last - first,
                                    to + (first - piece.offset).value()));
  }
  return absl::OkStatus();
}

absl::StatusOr<SegmentContents> WeightsFile::Load(Client& client, AllocateOptions options) const {
  options.placement = Placement::kDirect;
  SegmentContents contents;
  contents.tensors = tensors_;
  for (const Bytes size : blocks_) {
    TENURE_ASSIGN_OR_RETURN(DeviceBuffer block, client.Allocate(size, options));
    contents.blocks.push_back(std::move(block));
  }
  // One pass: DigestOf hashes the same buffer from which the piece was copied to the device.
  TENURE_ASSIGN_OR_RETURN(
      contents.digest, DigestOf(blocks_, [&](const DigestPiece& piece, char* to) -> absl::Status {
        TENURE_RETURN_IF_ERROR(ReadPiece(piece, to));
        return contents.blocks[piece.block].CopyFromHost(to, piece.size, piece.offset);
      }));
  return contents;
}

}  // namespace tenure

#include "client/weights_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "client/weights/safetensors.h"
#include "client/weights/safetensors_index.h"
#include "common/limits.h"
#include "common/status_macros.h"

namespace tenure {
namespace {

constexpr Bytes kAlignment = Bytes(256);  // of a tensor in its block

absl::Status InFile(const std::string& path, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

absl::Status NothingToLoad(const std::string& path, const struct stat& file) {
  if (S_ISDIR(file.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path,
                     " is a folder; name a file in it, such as model.safetensors or "
                     "model.safetensors.index.json"));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      path, S_ISREG(file.st_mode) ? " is empty" : " is no regular file", ": nothing to load"));
}

}  // namespace

absl::StatusOr<WeightsFile::File> WeightsFile::OpenFile(const std::string& path) {
  // Without waiting: a FIFO would otherwise wait for a process that writes to it.
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return absl::ErrnoToStatus(errno, absl::StrCat("open ", path));
  struct stat file = {};
  if (fstat(fd.get(), &file) != 0) return absl::ErrnoToStatus(errno, absl::StrCat("read ", path));
  if (!S_ISREG(file.st_mode) || file.st_size <= 0) return NothingToLoad(path, file);
  return File{path, std::move(fd), Bytes(static_cast<uint64_t>(file.st_size))};
}

absl::StatusOr<WeightsFile> WeightsFile::Open(const std::string& path, Bytes max_block) {
  TENURE_ASSIGN_OR_RETURN(File file, OpenFile(path));
  WeightsFile weights;
  if (absl::EndsWithIgnoreCase(path, ".safetensors.index.json")) {
    TENURE_RETURN_IF_ERROR(weights.ReadIndex(file, max_block));
  } else if (absl::EndsWithIgnoreCase(path, ".safetensors")) {
    TENURE_RETURN_IF_ERROR(weights.ReadSafetensors(std::move(file), nullptr, max_block));
  } else {
    weights.blocks_ = {file.size};
    weights.parts_ = {Part{0, Bytes(0), file.size, 0, Bytes(0)}};
    weights.files_.push_back(std::move(file));
    return weights;
  }
  if (weights.parts_.empty())
    return InFile(path, absl::InvalidArgumentError("there is no tensor with any bytes"));
  if (weights.blocks_.size() > kMaxSegmentBlocks) {
    return InFile(path,
                  absl::InvalidArgumentError(absl::StrCat(
                      "its tensors need ", weights.blocks_.size(), " blocks of up to ",
                      FormatBytes(max_block), "; a segment has at most ", kMaxSegmentBlocks)));
  }
  return weights;
}

absl::Status WeightsFile::ReadIndex(const File& index, Bytes max_block) {
  if (index.size > kMaxSafetensorsIndex) {
    return InFile(index.path, absl::InvalidArgumentError(absl::StrCat(
                                  "an index has at most ", FormatBytes(kMaxSafetensorsIndex))));
  }
  std::string text(index.size.value(), '\0');
  TENURE_RETURN_IF_ERROR(ReadFile(index, Bytes(0), index.size, text.data()));
  const absl::StatusOr<SafetensorsShards> shards = ParseSafetensorsIndex(text);
  if (!shards.ok()) return InFile(index.path, shards.status());
  // The files lie beside the index: "" for one in the present folder.
  const std::string folder = index.path.substr(0, index.path.rfind('/') + 1);
  for (const auto& [name, tensors] : *shards) {
    TENURE_ASSIGN_OR_RETURN(File file, OpenFile(folder + name));
    TENURE_RETURN_IF_ERROR(ReadSafetensors(std::move(file), &tensors, max_block));
  }
  return absl::OkStatus();
}

absl::Status WeightsFile::ReadSafetensors(File file, const std::set<std::string>* wanted,
                                          Bytes max_block) {
  if (file.size < kSafetensorsPrefix) {
    return InFile(file.path, absl::InvalidArgumentError(absl::StrCat(
                                 "not a safetensors file: it has ", file.size.value(), " bytes")));
  }
  std::array<unsigned char, kSafetensorsPrefix.value()> prefix = {};
  TENURE_RETURN_IF_ERROR(
      ReadFile(file, Bytes(0), kSafetensorsPrefix, reinterpret_cast<char*>(prefix.data())));
  const absl::StatusOr<Bytes> header_size = SafetensorsHeaderSize(prefix, file.size);
  if (!header_size.ok()) return InFile(file.path, header_size.status());
  std::string header(header_size->value(), '\0');
  TENURE_RETURN_IF_ERROR(ReadFile(file, kSafetensorsPrefix, *header_size, header.data()));
  const Bytes data_begin = kSafetensorsPrefix + *header_size;
  const absl::StatusOr<std::vector<FileTensor>> tensors =
      ParseSafetensorsHeader(header, file.size - data_begin);
  if (!tensors.ok()) return InFile(file.path, tensors.status());
  size_t taken = 0;
  for (const FileTensor& tensor : *tensors) {
    if (wanted != nullptr && wanted->count(tensor.name) == 0) continue;
    ++taken;
    Part part = {0, Bytes(0), tensor.size, files_.size(), data_begin + tensor.offset};
    Place(part, max_block);
    tensors_.push_back(
        {tensor.name, tensor.dtype, tensor.shape, part.block, part.offset, tensor.size});
    if (tensor.size > Bytes(0)) parts_.push_back(part);
    TENURE_RETURN_IF_ERROR(InFile(file.path, CheckLimits(tensors_.back())));
  }
  if (wanted != nullptr && taken != wanted->size()) {
    return InFile(file.path, absl::InvalidArgumentError(absl::StrCat(
                                 "it lacks ", wanted->size() - taken, " of the ", wanted->size(),
                                 " tensors that the index places in it")));
  }
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

absl::Status WeightsFile::CheckLimits(const SegmentTensor& tensor) const {
  const auto refuse = [&](const auto&... what) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tensor '", absl::Utf8SafeCHexEscape(tensor.name.substr(0, 100)), "' ", what...));
  };
  if (tensors_.size() > kMaxSegmentTensors)
    return refuse("is one too many: a segment has at most ", kMaxSegmentTensors, " tensors");
  if (tensor.name.empty() || tensor.name.size() > kMaxTensorName)
    return refuse("has a name of ", tensor.name.size(), " bytes, not 1 to ", kMaxTensorName);
  if (tensor.dtype.empty() || tensor.dtype.size() > kMaxTensorDtype)
    return refuse("has a dtype of ", tensor.dtype.size(), " bytes, not 1 to ", kMaxTensorDtype);
  if (tensor.shape.size() > kMaxTensorDimensions)
    return refuse("has ", tensor.shape.size(), " dimensions, not 0 to ", kMaxTensorDimensions);
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

absl::Status WeightsFile::ReadFile(const File& file, Bytes from, Bytes size, char* to) {
  while (size > Bytes(0)) {
    const ssize_t got = pread(file.fd.get(), to, size.value(), static_cast<off_t>(from.value()));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return absl::ErrnoToStatus(errno, absl::StrCat("read ", file.path));
    if (got == 0) {
      return absl::DataLossError(
          absl::StrCat(file.path, " ends at ", from.value(), " and was longer when it was opened"));
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
    TENURE_RETURN_IF_ERROR(ReadFile(files_[part->file], part->from + (first - part->offset),
                                    last - first, to + (first - piece.offset).value()));
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

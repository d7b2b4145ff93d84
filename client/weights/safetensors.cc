#include "client/weights/safetensors.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include <nlohmann/json.hpp>

#include "common/status_macros.h"

namespace tenure {
namespace {

using Json = nlohmann::json;

constexpr absl::string_view kMetadata = "__metadata__";

struct Row {
  absl::string_view dtype;
  uint64_t bits;  // of one element: those of some types have no whole number of bytes
};
constexpr std::array<Row, 22> kRows = {
    {{"BOOL", 8},    {"U8", 8},          {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8},
     {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"U16", 16},    {"I16", 16},
     {"F16", 16},    {"BF16", 16},       {"U32", 32},        {"I32", 32},    {"F32", 32},
     {"U64", 64},    {"I64", 64},        {"F64", 64},        {"C64", 64},    {"F4", 4},
     {"F6_E2M3", 6}, {"F6_E3M2", 6}}};

absl::Status Wrong(absl::string_view tensor, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(
      "safetensors header: tensor '", absl::Utf8SafeCHexEscape(tensor.substr(0, 100)), "' ", what));
}

// The number of bits of a tensor; nullopt when it does not fit in 64 bits.
std::optional<uint64_t> Product(const std::vector<uint64_t>& shape, uint64_t bits) {
  // A dimension of 0 makes the product 0, however large the others are.
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  uint64_t product = bits;
  for (const uint64_t dimension : shape) {
    if (__builtin_mul_overflow(product, dimension, &product)) return std::nullopt;
  }
  return product;
}

absl::Status CheckSize(const FileTensor& tensor) {
  const auto row = std::find_if(kRows.begin(), kRows.end(),
                                [&](const Row& one) { return one.dtype == tensor.dtype; });
  // A dtype that is newer than this table has an unknown size: only its position can be checked.
  if (row == kRows.end()) return absl::OkStatus();
  const std::optional<uint64_t> bits = Product(tensor.shape, row->bits);
  if (bits && *bits % 8 == 0 && *bits / 8 == tensor.size.value()) return absl::OkStatus();
  return Wrong(tensor.name,
               absl::StrCat("has ", tensor.size.value(), " bytes, which is not what its shape of ",
                            tensor.dtype, " takes"));
}

// True when `json` is a list of integers that are not negative.
bool ReadIntegers(const Json& json, std::vector<uint64_t>* integers) {
  if (!json.is_array()) return false;
  for (const Json& one : json) {
    if (!one.is_number_unsigned()) return false;
    integers->push_back(one.get<uint64_t>());
  }
  return true;
}

absl::StatusOr<FileTensor> ReadTensor(const std::string& name, const Json& json) {
  FileTensor tensor;
  tensor.name = name;
  std::vector<uint64_t> offsets;
  // On a value that is no object, find returns end().
  const auto dtype = json.find("dtype");
  const auto shape = json.find("shape");
  const auto place = json.find("data_offsets");
  if (!json.is_object() || dtype == json.end() || !dtype->is_string() || shape == json.end() ||
      !ReadIntegers(*shape, &tensor.shape) || place == json.end() ||
      !ReadIntegers(*place, &offsets)) {
    return Wrong(name, "lacks a dtype, a shape or data_offsets, or has some of another type");
  }
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    return Wrong(name, "has data_offsets that are no begin and end");
  }
  tensor.dtype = dtype->get<std::string>();
  tensor.offset = Bytes(offsets[0]);
  tensor.size = Bytes(offsets[1] - offsets[0]);
  TENURE_RETURN_IF_ERROR(CheckSize(tensor));
  return tensor;
}

// The keys that the format gives a meaning to.
bool IsFieldOfTensor(const std::string& key) {
  return key == "dtype" || key == "shape" || key == "data_offsets";
}

// Sets *twice to a key that stands twice in the same place: the name of a tensor, or a field of
// one. The parser itself would keep the second and drop the first without an error.
Json Parse(absl::string_view header, std::optional<std::string>* twice) {
  std::set<std::string> names;
  std::set<std::string> fields;
  const Json::parser_callback_t note = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (event != Json::parse_event_t::key || depth > 2) return true;
    const auto key = parsed.get<std::string>();
    if (depth == 1) fields.clear();
    std::set<std::string>& seen = depth == 1 ? names : fields;
    if ((depth == 1 || IsFieldOfTensor(key)) && !seen.insert(key).second) *twice = key;
    return true;
  };
  return Json::parse(header.begin(), header.end(), note, /*allow_exceptions=*/false);
}

absl::Status CheckMetadata(const Json& metadata) {
  const bool texts =
      metadata.is_object() && std::all_of(metadata.begin(), metadata.end(),
                                          [](const Json& value) { return value.is_string(); });
  if (texts || metadata.is_null()) return absl::OkStatus();
  return absl::InvalidArgumentError("safetensors header: __metadata__ is no object of texts");
}

absl::Status CheckTiling(const std::vector<FileTensor>& tensors, Bytes data) {
  Bytes end;
  for (const FileTensor& tensor : tensors) {
    if (tensor.offset != end) {
      return Wrong(tensor.name, absl::StrCat("begins at ", tensor.offset.value(),
                                             ", and what lies before it ends at ", end.value()));
    }
    if (tensor.size > data - end) {
      return Wrong(tensor.name, absl::StrCat("reaches beyond the end of the file, which has ",
                                             data.value(), " bytes of data"));
    }
    end += tensor.size;
  }
  if (end == data) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("safetensors header: the tensors end at ",
                                                 end.value(), ", and the file has ", data.value(),
                                                 " bytes of data"));
}

}  // namespace

absl::StatusOr<Bytes> SafetensorsHeaderSize(
    const std::array<unsigned char, kSafetensorsPrefix.value()>& prefix, Bytes file_size) {
  uint64_t size = 0;
  for (size_t i = prefix.size(); i-- > 0;) size = size << 8 | prefix[i];
  if (file_size < kSafetensorsPrefix || Bytes(size) > file_size - kSafetensorsPrefix ||
      Bytes(size) > kMaxSafetensorsHeader) {
    return absl::InvalidArgumentError(absl::StrCat(
        "not a safetensors file: a header of ", size, " bytes, in a file of ", file_size.value(),
        " bytes; at most ", FormatBytes(kMaxSafetensorsHeader), " are read"));
  }
  return Bytes(size);
}

absl::StatusOr<std::vector<FileTensor>> ParseSafetensorsHeader(absl::string_view header,
                                                               Bytes data) {
  // The format wants the bracket first, neither a space nor a byte order mark. A NUL is no JSON;
  // the parser takes one for the end of the text.
  const bool opened = !header.empty() && header.front() == '{';
  std::optional<std::string> twice;
  const Json json =
      opened && header.find('\0') == absl::string_view::npos ? Parse(header, &twice) : Json();
  if (!json.is_object()) {
    return absl::InvalidArgumentError("not a safetensors file: its header is no JSON object");
  }
  if (twice) {
    return absl::InvalidArgumentError(absl::StrCat("safetensors header: the key '",
                                                   absl::Utf8SafeCHexEscape(twice->substr(0, 100)),
                                                   "' stands there twice"));
  }
  std::vector<FileTensor> tensors;
  for (const auto& [name, description] : json.items()) {
    if (name == kMetadata) {
      TENURE_RETURN_IF_ERROR(CheckMetadata(description));
      continue;
    }
    TENURE_ASSIGN_OR_RETURN(FileTensor tensor, ReadTensor(name, description));
    tensors.push_back(std::move(tensor));
  }
  // A tensor without bytes comes before the one with the same offset: then CheckTiling sees each
  // begin where the one before ends.
  std::sort(tensors.begin(), tensors.end(), [](const FileTensor& a, const FileTensor& b) {
    return std::pair(a.offset, a.size) < std::pair(b.offset, b.size);
  });
  TENURE_RETURN_IF_ERROR(CheckTiling(tensors, data));
  return tensors;
}

}  // namespace tenure

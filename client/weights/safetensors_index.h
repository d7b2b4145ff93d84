// Parses the index of weights that are divided among several safetensors files.
#ifndef CLIENT_WEIGHTS_SAFETENSORS_INDEX_H_
#define CLIENT_WEIGHTS_SAFETENSORS_INDEX_H_

#include <map>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/bytes.h"

namespace tenure {

// An index names at most kMaxSegmentTensors = 8192 tensors that could be loaded, of less than 1 KiB
// each; a larger file is none.
inline constexpr Bytes kMaxSafetensorsIndex = MiB(16);

// Which tensors to take from each file. The files lie beside the index.
using SafetensorsShards = std::map<std::string, std::set<std::string>>;

// Reads `{"weight_map": {tensor: file}}`, as model.safetensors.index.json has it.
// Errors: INVALID_ARGUMENT: it has another form, names no tensor, or names a file in another
// folder: an index that came over the network must not choose which files of this host are read.
// Source: https://huggingface.co/docs/transformers/big_models, "Sharded checkpoints".
absl::StatusOr<SafetensorsShards> ParseSafetensorsIndex(absl::string_view text);

}  // namespace tenure

#endif  // CLIENT_WEIGHTS_SAFETENSORS_INDEX_H_

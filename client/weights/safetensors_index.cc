#include "client/weights/safetensors_index.h"

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <nlohmann/json.hpp>

namespace tenure {
namespace {

absl::Status Wrong(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("safetensors index: ", what));
}

}  // namespace

absl::StatusOr<SafetensorsShards> ParseSafetensorsIndex(absl::string_view text) {
  const nlohmann::json json =
      nlohmann::json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  // On a value that is no object, find returns end().
  const auto weights = json.find("weight_map");
  if (!json.is_object() || weights == json.end() || !weights->is_object())
    return Wrong("it has no weight_map, an object that names the file of each tensor");
  SafetensorsShards shards;
  for (const auto& [tensor, file] : weights->items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    if (!absl::EndsWithIgnoreCase(name, ".safetensors") || absl::StrContains(name, '/') ||
        absl::StrContains(name, '\0')) {
      return Wrong(absl::StrCat("the file of tensor '",
                                absl::Utf8SafeCHexEscape(tensor.substr(0, 100)),
                                "' is not the name of a .safetensors file in the same folder"));
    }
    shards[name].insert(tensor);
  }
  if (shards.empty()) return Wrong("its weight_map names no tensor");
  return shards;
}

}  // namespace tenure

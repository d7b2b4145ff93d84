// The command line and the config file: any input gives a config or an error message, and the sizes
// of a config fit the device.

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"

#include "common/check.h"
#include "server/config.h"

namespace {

const std::string& ConfigFile() {
  static const std::string path = "/tmp/tenure-flags-fuzz-" + std::to_string(getpid());
  return path;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  // If the first byte is odd, the rest is a config file. Otherwise it is the command line, one word
  // a line.
  std::vector<std::string> words = {"tenured"};
  if (data[0] % 2 == 1) {
    std::FILE* const file = std::fopen(ConfigFile().c_str(), "w");
    TENURE_CHECK(file != nullptr);
    std::fwrite(text.data(), 1, text.size(), file);
    std::fclose(file);
    words.insert(words.end(), {"--config", ConfigFile()});
  } else {
    for (const absl::string_view word : absl::StrSplit(text, '\n')) {
      if (word.find('\0') == absl::string_view::npos) words.emplace_back(word);
    }
  }
  std::vector<const char*> arguments;
  for (const std::string& word : words) arguments.push_back(word.c_str());
  const tenure::server::ParsedConfig parsed =
      tenure::server::ParseConfig(static_cast<int>(arguments.size()), arguments.data());
  if (!parsed.config) {
    TENURE_CHECK(parsed.exit_code == tenure::server::kExitOk ||
                 parsed.exit_code == tenure::server::kExitUsage);
    return 0;
  }
  const tenure::Bytes total = tenure::GiB(80);
  const auto sizes = tenure::server::ResolveSizes(*parsed.config, total);
  if (sizes.ok()) {
    TENURE_CHECK(sizes->warm_reserve <= sizes->warm_limit && sizes->warm_limit <= total);
    TENURE_CHECK(sizes->tenant_limit <= total);
    TENURE_CHECK(sizes->max_pool_block <= tenure::MiB(1));
  }
  return 0;
}

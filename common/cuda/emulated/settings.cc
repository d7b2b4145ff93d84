#include "common/cuda/emulated/settings.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "common/cuda/emulated/layout.h"
#include "common/status_macros.h"

namespace tenure::cuda::emulated {
namespace {

constexpr int kMostDevices = 16;

std::string Variable(const char* name, std::string otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : std::move(otherwise);
}

// "" when there is no such file.
std::string FirstLine(const std::string& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

std::string DefaultFolder() {
  const char* base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
  return absl::StrCat(base, "/tenure-emulated-", geteuid());
}

}  // namespace

absl::StatusOr<Settings> ReadSettings() {
  Settings settings;
  settings.folder = Variable("TENURE_EMULATED_DIR", DefaultFolder());
  const std::string devices = Variable("TENURE_EMULATED_DEVICES", "1");
  if (!absl::SimpleAtoi(devices, &settings.devices) || settings.devices < 0 ||
      settings.devices > kMostDevices) {
    return absl::InvalidArgumentError(absl::StrCat("TENURE_EMULATED_DEVICES is '", devices,
                                                   "', not a number from 0 to ", kMostDevices));
  }
  TENURE_ASSIGN_OR_RETURN(const Bytes memory,
                          ParseBytes(Variable("TENURE_EMULATED_MEMORY", "8GiB")));
  if (memory < kSmallestCard || memory > kLargestCard) {
    return absl::InvalidArgumentError(
        absl::StrCat("TENURE_EMULATED_MEMORY is ", FormatBytes(memory), ", not from ",
                     FormatBytes(kSmallestCard), " to ", FormatBytes(kLargestCard)));
  }
  settings.memory = memory;
  settings.faults = Variable("TENURE_EMULATED_FAULTS", "");
  if (absl::StartsWith(settings.faults, "@"))
    settings.faults = FirstLine(settings.faults.substr(1));
  settings.strict = Variable("TENURE_EMULATED_STRICT", "0") == "1";
  return settings;
}

}  // namespace tenure::cuda::emulated

// Finds a device by its ordinal or UUID.
#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include <cuda.h>

#include "common/cuda/device.h"
#include "common/cuda/driver.h"
#include "common/cuda/status.h"
#include "common/status_macros.h"

namespace tenure::cuda {
namespace {

// "GPU-" and the bytes in hex with dashes after bytes 4, 6, 8 and 10: what nvidia-smi -L prints.
std::string FormatUuid(const CUuuid& uuid) {
  std::string text = "GPU-";
  for (size_t i = 0; i < sizeof(uuid.bytes); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    absl::StrAppendFormat(&text, "%02x", static_cast<unsigned char>(uuid.bytes[i]));
  }
  return text;
}

absl::StatusOr<DeviceIdentity> Describe(const Driver& driver, int ordinal) {
  CUdevice device = 0;
  CUuuid uuid = {};
  std::array<char, 256> name = {};
  size_t total = 0;
  // `call` names the call that `result` came from, for the error message.
  absl::string_view call = "cuDeviceGet";
  CUresult result = driver.cuDeviceGet(&device, ordinal);
  if (result == CUDA_SUCCESS) {
    call = "cuDeviceGetUuid";
    result = driver.cuDeviceGetUuid_v2(&uuid, device);
  }
  if (result == CUDA_SUCCESS) {
    call = "cuDeviceGetName";
    result = driver.cuDeviceGetName(name.data(), static_cast<int>(name.size() - 1), device);
  }
  if (result == CUDA_SUCCESS) {
    call = "cuDeviceTotalMem";
    result = driver.cuDeviceTotalMem(&total, device);
  }
  if (result != CUDA_SUCCESS) {
    return ToStatus(driver, result, call, absl::StrCat("describe device ", ordinal));
  }
  return DeviceIdentity{ordinal, FormatUuid(uuid), name.data(), Bytes(total)};
}

absl::StatusOr<std::vector<DeviceIdentity>> DescribeAll(const Driver& driver) {
  int count = 0;
  const CUresult result = driver.cuDeviceGetCount(&count);
  if (result != CUDA_SUCCESS) {
    return ToStatus(driver, result, "cuDeviceGetCount", "count the devices");
  }
  std::vector<DeviceIdentity> devices;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    TENURE_ASSIGN_OR_RETURN(DeviceIdentity device, Describe(driver, ordinal));
    devices.push_back(std::move(device));
  }
  return devices;
}

std::string ListOf(const std::vector<DeviceIdentity>& devices) {
  if (devices.empty()) return "there are no devices";
  return absl::StrCat(
      "the devices are ",
      absl::StrJoin(devices, ", ", [](std::string* out, const DeviceIdentity& device) {
        absl::StrAppend(out, device.ordinal, " = ", device.uuid, " (", device.name, ", ",
                        FormatBytes(device.total), ")");
      }));
}

bool IsOrdinal(absl::string_view selector) {
  return !selector.empty() && std::all_of(selector.begin(), selector.end(), absl::ascii_isdigit);
}

}  // namespace

absl::StatusOr<DeviceIdentity> Identify(const Driver& driver, absl::string_view selector) {
  TENURE_ASSIGN_OR_RETURN(const std::vector<DeviceIdentity> devices, DescribeAll(driver));
  const bool is_ordinal = IsOrdinal(selector);
  if (!is_ordinal && !absl::StartsWithIgnoreCase(selector, "GPU-")) {
    return absl::InvalidArgumentError(absl::StrCat("'", selector,
                                                   "' names no device: write an ordinal or a UUID "
                                                   "that begins with GPU-; ",
                                                   ListOf(devices)));
  }
  const DeviceIdentity* match = nullptr;
  for (const DeviceIdentity& device : devices) {
    // "00" and "+1" are refused: with one spelling for each ordinal, logs and paths can be
    // compared.
    const bool matches = is_ordinal ? absl::StrCat(device.ordinal) == selector
                                    : absl::StartsWithIgnoreCase(device.uuid, selector);
    if (!matches) continue;
    if (match != nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", selector, "' matches several devices; ", ListOf(devices)));
    }
    match = &device;
  }
  if (match == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("there is no device '", selector, "'; ", ListOf(devices)));
  }
  return *match;
}

}  // namespace tenure::cuda

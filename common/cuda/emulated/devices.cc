#include "common/cuda/emulated/devices.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include <stdlib.h>

#include "common/cuda/emulated/settings.h"

namespace tenure::cuda::emulated {
namespace {

// FNV-1a, 64 bits.
uint64_t Hash(absl::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char letter : text) {
    hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001b3;
  }
  return hash;
}

// A UUID that is the same in each process that names this folder, and differs between folders.
CUuuid UuidOf(const std::string& folder) {
  char resolved[PATH_MAX];
  const std::string name = realpath(folder.c_str(), resolved) != nullptr ? resolved : folder;
  const uint64_t halves[2] = {Hash(name), Hash(absl::StrCat("emulated:", name))};
  CUuuid uuid = {};
  static_assert(sizeof(uuid.bytes) == sizeof(halves));
  std::memcpy(uuid.bytes, halves, sizeof(halves));
  return uuid;
}

std::string FormatUuid(const CUuuid& uuid) {
  std::string text = "GPU-";
  for (size_t i = 0; i < sizeof(uuid.bytes); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    absl::StrAppendFormat(&text, "%02x", static_cast<unsigned char>(uuid.bytes[i]));
  }
  return text;
}

// A folder that every user may write, because every user of the device may open its memory. It is
// not sticky: the process that sweeps a card removes the files of dead processes of other users.
bool MakeFolder(const std::string& folder) {
  if (mkdir(folder.c_str(), 0777) == 0) return chmod(folder.c_str(), 0777) == 0;
  return errno == EEXIST;
}

CUresult Refuse(absl::string_view reason, CUresult result) {
  std::fprintf(stderr, "emulated CUDA driver: %s\n", std::string(reason).c_str());
  return result;
}

}  // namespace

CUresult Devices::Attach(Faults& faults) {
  if (attached_) return CUDA_SUCCESS;
  const absl::StatusOr<Settings> settings = ReadSettings();
  if (!settings.ok()) return Refuse(settings.status().message(), CUDA_ERROR_INVALID_VALUE);
  if (!faults.Parse(settings->faults)) {
    return Refuse(absl::StrCat("TENURE_EMULATED_FAULTS is malformed: ", settings->faults),
                  CUDA_ERROR_INVALID_VALUE);
  }
  std::vector<std::unique_ptr<CUctx_st>> opened;
  for (int ordinal = 0; ordinal < settings->devices; ++ordinal) {
    const std::string folder = absl::StrCat(settings->folder, "/device-", ordinal);
    if (!MakeFolder(settings->folder) || !MakeFolder(folder)) {
      return Refuse(absl::StrCat("cannot make ", folder, ": ", std::strerror(errno)),
                    CUDA_ERROR_OPERATING_SYSTEM);
    }
    std::unique_ptr<Card> card;
    const CUresult result = Card::Open(folder, settings->memory, &card);
    if (result != CUDA_SUCCESS) return result;
    opened.push_back(std::make_unique<CUctx_st>(ordinal, folder, std::move(card)));
  }
  all_ = std::move(opened);
  strict_ = settings->strict;
  attached_ = true;
  return CUDA_SUCCESS;
}

CUresult Devices::Initialise(Faults& faults) {
  const CUresult attached = Attach(faults);
  if (attached != CUDA_SUCCESS) return attached;
  if (all_.empty()) return CUDA_ERROR_NO_DEVICE;
  initialised_ = true;
  return CUDA_SUCCESS;
}

CUctx_st* Devices::Find(CUdevice ordinal) {
  const bool known = ordinal >= 0 && static_cast<size_t>(ordinal) < all_.size();
  return known ? all_[static_cast<size_t>(ordinal)].get() : nullptr;
}

CUctx_st* Devices::FindOwner(CUdeviceptr pointer) {
  for (const auto& device : all_) {
    if (device->memory.Find(pointer)) return device.get();
  }
  return nullptr;
}

std::optional<MemoryRange> Devices::FindRange(CUdeviceptr pointer) {
  CUctx_st* owner = FindOwner(pointer);
  return owner != nullptr ? owner->memory.Find(pointer) : virtual_memory_.Find(pointer);
}

bool Devices::Allows(Use use, CUdeviceptr pointer, size_t bytes) {
  CUctx_st* owner = FindOwner(pointer);
  if (owner == nullptr) return virtual_memory_.Allows(use, pointer, bytes);
  const MemoryRange range = *owner->memory.Find(pointer);
  return bytes <= range.size - (pointer - range.base);
}

bool Devices::IsKnown(CUcontext context) const {
  return std::any_of(all_.begin(), all_.end(),
                     [context](const auto& device) { return device.get() == context; });
}

bool Devices::IsActive(CUcontext context) const {
  return IsKnown(context) && context->retained > 0;
}

void Devices::EndContext(CUctx_st& context) {
  // The memory is released before Leave, which frees everything that this process still has on the
  // card.
  virtual_memory_.ReleaseAll(*context.card);
  context.memory.ReleaseAll();
  context.streams.clear();
  context.card->Leave();
  context.retained = 0;
}

void Devices::ShutDown() {
  for (const auto& device : all_) {
    if (device->retained > 0) device->card->LeaveAtExit();
  }
  initialised_ = false;
}

}  // namespace tenure::cuda::emulated

CUctx_st::CUctx_st(int device_ordinal, const std::string& device_folder,
                   std::unique_ptr<tenure::cuda::emulated::Card> device_card)
    : ordinal(device_ordinal),
      uuid(tenure::cuda::emulated::UuidOf(device_folder)),
      uuid_text(tenure::cuda::emulated::FormatUuid(uuid)),
      card(std::move(device_card)),
      memory(*card) {}

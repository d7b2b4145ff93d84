#include "common/cuda/emulated/backing_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cinttypes>
#include <cstdio>

#include "common/cuda/emulated/layout.h"
#include "common/unique_fd.h"

namespace tenure::cuda::emulated {
namespace {

class FileName {
 public:
  explicit FileName(uint64_t id) { std::snprintf(text_, sizeof(text_), "memory-%" PRIu64, id); }
  const char* get() const { return text_; }

 private:
  char text_[32];
};

// Maps into an address range that is a page too long, and gives back what is over on both sides.
void* MapAligned(const UniqueFd& file, size_t bytes) {
  const size_t page = kPage.value();
  void* range =
      mmap(nullptr, bytes + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) return nullptr;
  const auto start = reinterpret_cast<uintptr_t>(range);
  const uintptr_t aligned = (start + page - 1) / page * page;
  void* address = mmap(reinterpret_cast<void*>(aligned), bytes, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_FIXED, file.get(), 0);
  if (address == MAP_FAILED) {
    munmap(range, bytes + page);
    return nullptr;
  }
  if (aligned > start) munmap(range, aligned - start);
  const uintptr_t end = aligned + bytes;
  if (start + page > aligned) munmap(reinterpret_cast<void*>(end), start + page - aligned);
  return address;
}

}  // namespace

void* CreateBackingFile(int folder, uint64_t id, size_t bytes) {
  const FileName name(id);
  const UniqueFd file(openat(folder, name.get(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!file) return nullptr;
  // Any user of the device may open a handle, whatever the exporter's umask says.
  const bool ready =
      fchmod(file.get(), 0666) == 0 && ftruncate(file.get(), static_cast<off_t>(bytes)) == 0;
  void* address = ready ? MapAligned(file, bytes) : nullptr;
  if (address == nullptr) unlinkat(folder, name.get(), 0);
  return address;
}

void* MapBackingFile(int folder, uint64_t id, size_t bytes) {
  const UniqueFd file(openat(folder, FileName(id).get(), O_RDWR | O_CLOEXEC));
  return file ? MapAligned(file, bytes) : nullptr;
}

void RemoveBackingFile(int folder, uint64_t id) { unlinkat(folder, FileName(id).get(), 0); }

}  // namespace tenure::cuda::emulated

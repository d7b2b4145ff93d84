#include "common/cuda/emulated/backing_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cinttypes>
#include <cstdio>

#include "common/cuda/emulated/address_range.h"
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

void* MapAligned(int file, size_t bytes, int protection) {
  char* range = ReserveAddresses(bytes, kPage.value());
  if (range == nullptr) return nullptr;
  void* address = mmap(range, bytes, protection, MAP_SHARED | MAP_FIXED, file, 0);
  if (address != MAP_FAILED) return address;
  FreeAddresses(range, bytes);
  return nullptr;
}

// A mapping that forked children do not get: a mapping keeps a descriptor's lock, and a child would
// keep the memory in use after its parent has released it.
void* MapForThisProcess(int file, size_t bytes) {
  void* address = MapAligned(file, bytes, PROT_NONE);
  if (address == nullptr || madvise(address, bytes, MADV_DONTFORK) == 0) return address;
  munmap(address, bytes);
  return nullptr;
}

// A lock on the whole file. OpenDescriptor takes it shared, so that there can be many descriptors.
// HasDescriptor asks whether an exclusive one could be had.
struct flock DescriptorLock(short type) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return lock;
}

}  // namespace

void* CreateBackingFile(int folder, uint64_t id, size_t bytes) {
  const FileName name(id);
  const UniqueFd file(openat(folder, name.get(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!file) return nullptr;
  // Every user of the device may open a handle, so the umask must not narrow the mode.
  const bool ready =
      fchmod(file.get(), 0666) == 0 && ftruncate(file.get(), static_cast<off_t>(bytes)) == 0;
  void* address = ready ? MapAligned(file.get(), bytes, PROT_READ | PROT_WRITE) : nullptr;
  if (address == nullptr) unlinkat(folder, name.get(), 0);
  return address;
}

void* MapBackingFile(int folder, uint64_t id, size_t bytes) {
  const UniqueFd file(openat(folder, FileName(id).get(), O_RDWR | O_CLOEXEC));
  return file ? MapAligned(file.get(), bytes, PROT_READ | PROT_WRITE) : nullptr;
}

void* CreateDescribedFile(int folder, uint64_t id, size_t bytes, uint64_t* inode) {
  const FileName name(id);
  const UniqueFd file(openat(folder, name.get(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!file) return nullptr;
  struct stat status = {};
  const bool ready = fchmod(file.get(), 0644) == 0 &&
                     ftruncate(file.get(), static_cast<off_t>(bytes)) == 0 &&
                     fstat(file.get(), &status) == 0;
  void* address = ready ? MapForThisProcess(file.get(), bytes) : nullptr;
  if (address == nullptr) unlinkat(folder, name.get(), 0);
  *inode = status.st_ino;
  return address;
}

UniqueFd OpenDescriptor(int folder, uint64_t id) {
  UniqueFd file(openat(folder, FileName(id).get(), O_RDWR | O_CLOEXEC));
  struct flock lock = DescriptorLock(F_RDLCK);
  if (file && fcntl(file.get(), F_OFD_SETLK, &lock) != 0) file.Reset();
  return file;
}

bool HasDescriptor(int folder, uint64_t id) {
  const UniqueFd file(openat(folder, FileName(id).get(), O_RDONLY | O_CLOEXEC));
  // If the file cannot be opened, its locks are not known and the memory is kept. A missing file
  // has no descriptor.
  if (!file) return errno != ENOENT;
  struct flock lock = DescriptorLock(F_WRLCK);
  return fcntl(file.get(), F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

void* MapDescriptor(int descriptor, size_t bytes) { return MapForThisProcess(descriptor, bytes); }

void RemoveBackingFile(int folder, uint64_t id) { unlinkat(folder, FileName(id).get(), 0); }

}  // namespace tenure::cuda::emulated

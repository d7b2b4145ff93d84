#include "client/session/device_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tenure {
namespace {

// The kernel's own record of a folder's entry. opendir() and readdir() allocate, which is not
// allowed between fork and exec. Source: getdents64(2).
struct DirectoryEntry {
  uint64_t inode;
  int64_t offset;
  uint16_t length;
  uint8_t type;
  char name[1];
};

// The number in a name of /proc/self/fd; -1 for "." and "..".
int ToNumber(const char* name) {
  int number = 0;
  for (; *name != 0; ++name) {
    if (*name < '0' || *name > '9') return -1;
    number = number * 10 + (*name - '0');
  }
  return number;
}

// The names of the emulated driver's files: common/cuda/emulated/card.cc.
constexpr char kEmulatedFile[] = "/nvidia-processes";
constexpr char kEmulatedCard[] = "/card-3";
static_assert(sizeof kEmulatedCard <= sizeof kEmulatedFile);

// Whether `path`, in a buffer of its own, is the emulated driver's: the file of that name in a
// folder that has a card. Changes the buffer.
bool IsEmulated(char* path) {
  char* const name = std::strrchr(path, '/');
  if (std::strcmp(name, kEmulatedFile) != 0) return false;
  std::memcpy(name, kEmulatedCard, sizeof kEmulatedCard);
  return access(path, F_OK) == 0;
}

bool IsDeviceFile(int folder, const char* name, int file) {
  std::array<char, 4096> target = {};
  const ssize_t length = readlinkat(folder, name, target.data(), target.size() - 1);
  if (length <= 0 || target[0] != '/') return false;
  constexpr char kPrefix[] = "/nvidia";
  if (std::strncmp(std::strrchr(target.data(), '/'), kPrefix, sizeof kPrefix - 1) != 0) {
    return false;
  }
  // A user's own file may have such a name as well.
  struct stat info = {};
  if (fstat(file, &info) != 0) return false;
  return S_ISCHR(info.st_mode) || (S_ISREG(info.st_mode) && IsEmulated(target.data()));
}

}  // namespace

void ReleaseDeviceFiles() {
  const int folder = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
  // On the stack: a forked child must not allocate before exec.
  alignas(DirectoryEntry) std::array<char, 4096> entries = {};
  while (folder >= 0 && nothing >= 0) {
    const long filled = syscall(SYS_getdents64, folder, entries.data(), entries.size());
    if (filled <= 0) break;
    for (long at = 0; at < filled;) {
      const char* const entry = entries.data() + at;
      const char* const name = entry + offsetof(DirectoryEntry, name);
      // Copied, because a record may not be aligned for the type of this field.
      uint16_t length = 0;
      std::memcpy(&length, entry + offsetof(DirectoryEntry, length), sizeof length);
      at += length;
      const int file = ToNumber(name);
      // dup3 replaces the descriptor in one step and keeps the list of descriptors as it is while
      // this loop reads it.
      if (file >= 0 && IsDeviceFile(folder, name, file)) dup3(nothing, file, O_CLOEXEC);
    }
  }
  if (folder >= 0) close(folder);
  if (nothing >= 0) close(nothing);
}

}  // namespace tenure

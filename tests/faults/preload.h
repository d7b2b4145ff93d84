// Helpers for the injectors, which LD_PRELOAD loads into a program before everything else.
#ifndef TESTS_FAULTS_PRELOAD_H_
#define TESTS_FAULTS_PRELOAD_H_

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

namespace tenure::testing {

// Maps the file that this environment variable names. The test maps the same file. Null when the
// variable is not set.
template <typename Control>
Control* MapControl(const char* variable) {
  const char* const path = std::getenv(variable);
  if (path == nullptr) return nullptr;
  const int file = open(path, O_RDWR | O_CLOEXEC);
  void* const shared = mmap(nullptr, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (shared == MAP_FAILED) abort();
  close(file);
  return static_cast<Control*>(shared);
}

// The function of this name that the program would call without the injector.
template <typename Function>
Function Next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace tenure::testing

#endif  // TESTS_FAULTS_PRELOAD_H_

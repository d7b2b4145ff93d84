// A process that was started with closed standard files.

#include "common/standard_files.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include <gtest/gtest.h>

namespace tenure {
namespace {

// Runs `step` in a child that has none of the standard files; returns its exit code.
template <typename Step>
int InAChildWithoutStandardFiles(Step step) {
  const pid_t child = fork();
  if (child == 0) {
    for (int fd = 0; fd <= 2; ++fd) close(fd);
    _exit(step());
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(StandardFiles, ClosedOnesAreOpenedSoThatNoOtherFileGetsTheirNumber) {
  const auto open_one = [] { return open("/etc/hostname", O_RDONLY | O_CLOEXEC); };
  // The wrong number, so that the right one below means something.
  EXPECT_EQ(InAChildWithoutStandardFiles(open_one), 0);
  EXPECT_GT(InAChildWithoutStandardFiles([&] {
              OpenStandardFiles();
              return open_one();
            }),
            2);
}

TEST(StandardFiles, OpenOnesStayAsTheyAre) {
  const int code = InAChildWithoutStandardFiles([] {
    int ends[2] = {};
    // The ends become descriptors 0 and 1.
    if (pipe2(ends, O_NONBLOCK) != 0) return 1;
    OpenStandardFiles();
    if (write(1, "x", 1) != 1) return 2;
    char byte = 0;
    return read(0, &byte, 1) == 1 && byte == 'x' ? 0 : 3;
  });
  EXPECT_EQ(code, 0);
}

TEST(StandardFiles, WordsForAPipeThatNobodyReadsAreDropped) {
  const int code = InAChildWithoutStandardFiles([] {
    OpenStandardFiles();
    int ends[2] = {};
    if (pipe2(ends, O_CLOEXEC) != 0 || dup2(ends[1], STDERR_FILENO) < 0) return 1;
    for (int i = 0; i < 100; ++i) {
      if (!WriteToStderr(std::string(4096, 'x'))) return 0;
    }
    return 2;
  });
  EXPECT_EQ(code, 0);
}

}  // namespace
}  // namespace tenure

// tenurectl as a program, without a daemon.
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

namespace tenure::testing {
namespace {

struct Outcome {
  int exit_code = -1;
  std::string output;  // stdout and stderr
};

Outcome Tenurectl(const std::string& arguments) {
  const std::filesystem::path folder =
      std::filesystem::read_symlink("/proc/self/exe").parent_path();
  const std::string command =
      absl::StrCat((folder / "tenurectl").string(), " ", arguments, " 2>&1 </dev/null");
  Outcome outcome;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return outcome;
  std::array<char, 4096> chunk;
  size_t got = 0;
  while ((got = fread(chunk.data(), 1, chunk.size(), pipe)) > 0) {
    outcome.output.append(chunk.data(), got);
  }
  const int status = pclose(pipe);
  outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return outcome;
}

TEST(TenurectlProgram, WithoutADaemonEveryCommandSaysHowToStartOne) {
  for (const char* command : {"status", "status --json", "ps", "ls", "replay /dev/null"}) {
    const Outcome outcome = Tenurectl(absl::StrCat(command, " --socket /tmp/tenure-test-none"));
    EXPECT_EQ(outcome.exit_code, 3) << command;
    EXPECT_NE(outcome.output.find("start it with `tenured`"), std::string::npos) << outcome.output;
  }
}

TEST(TenurectlProgram, SocketWithoutListenerIsExitCodeFour) {
  std::string folder = "/tmp/tenure-test-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const std::string path = folder + "/stale";
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  close(fd);
  EXPECT_EQ(Tenurectl("status --socket " + path).exit_code, 4);
  std::filesystem::remove_all(folder);
}

TEST(TenurectlProgram, MisuseIsExitCodeTwo) {
  for (const char* words :
       {"", "frobnicate", "status --frobnicate", "ls --session x", "replay", "replay x --workers 0",
        "replay x --workers 257", "replay x --repeat 0", "replay x --check-every -1", "--socket"}) {
    EXPECT_EQ(Tenurectl(words).exit_code, 2) << words;
  }
}

TEST(TenurectlProgram, AnUnknownCommandIsNamedWithTheOneThatWasMeant) {
  for (const char* words : {"statsu", "statsu --help", "statsu --json", "--socket /x statsu"}) {
    const Outcome outcome = Tenurectl(words);
    EXPECT_EQ(outcome.exit_code, 2) << words;
    EXPECT_NE(outcome.output.find("no command 'statsu'; did you mean 'status'?"), std::string::npos)
        << outcome.output;
  }
  EXPECT_NE(Tenurectl("'a\x1b[2Jb'").output.find("no command 'a?[2Jb'\n"), std::string::npos);
  EXPECT_EQ(Tenurectl("status bogus").exit_code, 2);
}

TEST(TenurectlProgram, LeadingZerosAreNoOctalNumber) {
  // As an octal number 0400 would be 256, the largest number of workers that is allowed.
  EXPECT_EQ(Tenurectl("replay x --workers 0400").exit_code, 2);
  EXPECT_EQ(Tenurectl("replay x --workers 0x10").exit_code, 2);
  EXPECT_EQ(Tenurectl("replay x --workers 08 --socket /tmp/tenure-test-none").exit_code, 3);
  EXPECT_EQ(Tenurectl("ls --session 08 --socket /tmp/tenure-test-none").exit_code, 3);
  EXPECT_EQ(Tenurectl("publish n f --share 0x10").exit_code, 2);
}

TEST(TenurectlProgram, WhatCannotBeWrittenIsAFailure) {
  for (const char* words : {"--help", "--version", "ps --help"})
    EXPECT_EQ(Tenurectl(absl::StrCat(words, " >/dev/full")).exit_code, 1) << words;
}

TEST(TenurectlProgram, HelpAndVersionAreNoErrors) {
  const Outcome version = Tenurectl("--version");
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_EQ(version.output.rfind("tenurectl ", 0), 0u) << version.output;
  for (const char* words : {"--help", "status --help", "ps --help", "ls --help", "replay --help"}) {
    EXPECT_EQ(Tenurectl(words).exit_code, 0) << words;
  }
  for (const char* command : {"", "status", "ps", "ls", "explain", "trim", "revoke", "drain",
                              "segments", "publish", "attach", "unpublish", "replay"}) {
    const Outcome help = Tenurectl(absl::StrCat(command, " --help"));
    EXPECT_EQ(help.exit_code, 0) << command;
    for (const char c : help.output)
      ASSERT_TRUE(c == '\n' || c == '\t' || c >= ' ') << "a control character in " << command;
  }
  EXPECT_EQ(Tenurectl("--help").output.find("replay-worker"), std::string::npos)
      << "a command that only tenurectl starts is listed";
}

}  // namespace
}  // namespace tenure::testing

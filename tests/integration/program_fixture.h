// Runs this project's programs against a daemon that the test starts.
#ifndef TESTS_INTEGRATION_PROGRAM_FIXTURE_H_
#define TESTS_INTEGRATION_PROGRAM_FIXTURE_H_

#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/support/test_daemon.h"

namespace tenure::testing {

using Json = nlohmann::json;

struct Outcome {
  int exit_code = -1;
  std::string output;
  Json json() const { return Json::parse(output, nullptr, /*allow_exceptions=*/false); }
  bool Says(const std::string& words) const { return output.find(words) != std::string::npos; }
};

// Runs a shell command to its end; returns its exit code and its stdout.
inline Outcome RunInShell(const std::string& command) {
  Outcome outcome;
  FILE* pipe = popen(command.c_str(), "r");
  std::array<char, 4096> chunk;
  size_t got = 0;
  while ((got = fread(chunk.data(), 1, chunk.size(), pipe)) > 0) {
    outcome.output.append(chunk.data(), got);
  }
  const int status = pclose(pipe);
  outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return outcome;
}

class ProgramTest : public ::testing::Test {
 protected:
  explicit ProgramTest(TestDaemon::Options options = {.memory = "16GiB"})
      : daemon_(std::move(options)) {}

  // Runs a program to its end; returns its stdout, unless `streams` redirects.
  Outcome Run(const std::string& program, const std::string& arguments,
              const std::string& streams = "2>/dev/null") {
    return RunInShell(ProgramFolder() + "/" + program + " --socket " + daemon_.socket() + " " +
                      arguments + " </dev/null " + streams);
  }
  Outcome Tenurectl(const std::string& arguments) { return Run("tenurectl", arguments); }
  // The same, but returns its stderr.
  Outcome Complaint(const std::string& arguments) {
    return Run("tenurectl", arguments, "2>&1 >/dev/null");
  }

  // The pid of the session with this name; 0 when there is none.
  pid_t PidOf(const std::string& name) {
    const v1::ListSessionsResponse list = daemon_.ListSessions();
    for (const v1::Session& session : list.sessions()) {
      if (session.name() == name) return static_cast<pid_t>(session.pid());
    }
    return 0;
  }

  TestDaemon daemon_;
};

}  // namespace tenure::testing

#endif  // TESTS_INTEGRATION_PROGRAM_FIXTURE_H_

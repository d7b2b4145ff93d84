// The daemon as a process: start, stop, and what prevents a start.

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include "common/bytes.h"
#include "common/check.h"
#include "common/unique_fd.h"
#include "tenure/v1/admin.grpc.pb.h"
#include "tests/support/raw_session.h"
#include "tests/support/test_daemon.h"

namespace tenure::testing {
namespace {

// Exit codes that scripts rely on.
constexpr int kUsage = 64;
constexpr int kUnavailable = 69;
constexpr int kLost = 70;
constexpr int kNoSocket = 73;

// Starts the same daemon as `daemon` with some words of its command line replaced, and waits for
// its end.
int RunAnother(const TestDaemon& daemon, const std::string& flag, const std::string& value) {
  std::vector<std::string> command = daemon.command();
  bool replaced = false;
  for (size_t i = 0; i + 1 < command.size(); ++i) {
    if (command[i] == flag) {
      command[i + 1] = value;
      replaced = true;
    }
  }
  if (!replaced) command.insert(command.end(), {flag, value});
  return WaitForExit(StartProgram(command));
}

int RunAlone(const std::vector<std::string>& flags) {
  std::vector<std::string> command = {ProgramFolder() + "/tenured", "--log-level", "off"};
  command.insert(command.end(), flags.begin(), flags.end());
  return WaitForExit(StartProgram(command));
}

TEST(DaemonTest, SigtermLeavesNoSocketAndEndsWithZeroAlsoWithLiveSessions) {
  TestDaemon daemon;
  RawSession session(daemon.allocator());
  ASSERT_TRUE(session.Allocate(MiB(5).value()).ok());
  ASSERT_TRUE(session.Allocate(100).ok());
  EXPECT_EQ(daemon.Stop(), 0);
  EXPECT_FALSE(std::filesystem::exists(daemon.socket()));
  EXPECT_TRUE(std::filesystem::is_empty(daemon.folder()));
  // The next daemon of the device finds all of its memory free.
  TestDaemon next(TestDaemon::Options{.flags = {"--warm-reserve", "0"}});
  EXPECT_EQ(next.GetStats().reserved_bytes(), 0u);
  if (!OnRealDevice()) {
    const v1::GetStatsResponse stats = next.GetStats();
    EXPECT_LT(stats.other_bytes(), stats.total_bytes() / 100) << "something was left on the device";
  }
}

TEST(DaemonTest, ASecondDaemonOfTheSameDeviceEndsBeforeItTouchesTheSocket) {
  TestDaemon daemon;
  struct stat before = {};
  ASSERT_EQ(stat(daemon.socket().c_str(), &before), 0);
  EXPECT_EQ(RunAnother(daemon, "--socket", daemon.socket()), kUnavailable);
  EXPECT_EQ(RunAnother(daemon, "--socket", daemon.folder() + "/other.sock"), kUnavailable);
  struct stat after = {};
  ASSERT_EQ(stat(daemon.socket().c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);
  EXPECT_FALSE(std::filesystem::exists(daemon.folder() + "/other.sock"));
  EXPECT_EQ(daemon.GetStats().health(), "SERVING");
}

TEST(DaemonTest, AnOccupiedSocketPathIsLeftAlone) {
  TestDaemon daemon;
  const std::string file = daemon.folder() + "/file";
  std::ofstream(file) << "kept";
  ASSERT_EQ(daemon.Stop(), 0);
  EXPECT_EQ(RunAnother(daemon, "--socket", file), kNoSocket);
  std::string text;
  std::ifstream(file) >> text;
  EXPECT_EQ(text, "kept");

  const std::string busy = daemon.folder() + "/busy.sock";
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, busy.c_str(), sizeof address.sun_path - 1);
  ASSERT_EQ(bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  EXPECT_EQ(RunAnother(daemon, "--socket", busy), kNoSocket);
  close(listener);
  std::filesystem::remove(file);
  std::filesystem::remove(busy);
}

TEST(DaemonTest, AKilledDaemonsSocketIsReplacedByTheNext) {
  TestDaemon daemon;
  const std::vector<std::string> command = daemon.command();
  kill(daemon.pid(), SIGKILL);
  EXPECT_EQ(daemon.WaitForEnd(), 128 + SIGKILL);
  ASSERT_TRUE(std::filesystem::exists(daemon.socket()));
  const pid_t next = StartProgram(command);
  EXPECT_TRUE(Eventually([&] {
    return daemon.NewChannel()->WaitForConnected(std::chrono::system_clock::now() +
                                                 std::chrono::milliseconds(200));
  }));
  kill(next, SIGTERM);
  EXPECT_EQ(WaitForExit(next), 0);
}

TEST(DaemonTest, WrongFlagsEndWithUsage) {
  const std::vector<std::vector<std::string>> wrong = {
      {"--no-such-flag"},          {"--lease-ttl", "5"},         {"--lease-ttl", "1ms"},
      {"--isolation", "none"},     {"--http", "9450"},           {"--log-level", "loud"},
      {"--warm-reserve", "lots"},  {"--max-sessions", "0"},      {"--driver", "nvidia"},
      {"--emulated-memory", "-1"}, {"--config", "/nonexistent"},
  };
  for (const std::vector<std::string>& flags : wrong)
    EXPECT_EQ(RunAlone(flags), kUsage) << flags[0];
}

TEST(DaemonTest, SizesThatDoNotFitTheDeviceEndWithUsage) {
  TestDaemon daemon;
  ASSERT_EQ(daemon.Stop(), 0);
  EXPECT_EQ(RunAnother(daemon, "--warm-reserve", "26%"), kUsage);
  EXPECT_EQ(RunAnother(daemon, "--max-pool-block", "2MiB"), kUsage);
  EXPECT_EQ(RunAnother(daemon, "--device", "7x"), kUsage);
  EXPECT_EQ(RunAnother(daemon, "--device", "77"), kUnavailable);
  EXPECT_EQ(RunAnother(daemon, "--device", "GPU-00000000-0000-0000-0000-000000000000"),
            kUnavailable);
}

TEST(DaemonTest, TheCheckRefusesWhatTheStartRefuses) {
  const std::string long_path = "/" + std::string(120, 'a') + "/grpc.sock";
  const std::vector<std::vector<std::string>> wrong = {
      {"--warm-reserve", "26%"},
      {"--warm-reserve", "4GiB"},
      {"--max-pool-block", "2MiB"},
      {"--max-pool-block", "512"},
      {"--max-pool-block", "10%"},
      {"--max-tenant-bytes", "50"},
      {"--max-tenant-bytes", "1MiB"},
      {"--max-tenant-bytes", "900GiB"},
      {"--allow-user", "no-such-user"},
      {"--allow-group", "no-such-group"},
      {"--device", "foo"},
      {"--device", "-1"},
      {"--device", "GPU"},
      {"--driver", "CUDA"},
      {"--http", "127.0.0.1:99999"},
      {"--http", "foo:"},
      {"--socket", long_path},
      {"--socket", ""},
      {"--emulated-memory", "0"},
      {"--emulated-memory", "50%"},
      {"--emulated-memory", "2TiB"},
      {"--lease-ttl", "3s", "--lease-ttl", "4s"},
  };
  for (std::vector<std::string> flags : wrong) {
    if (flags[0] != "--driver") flags.insert(flags.end(), {"--driver", "emulated"});
    EXPECT_EQ(RunAlone(flags), kUsage) << flags[0] << " " << flags[1];
    flags.emplace_back("--check-config");
    EXPECT_EQ(RunAlone(flags), kUsage) << flags[0] << " " << flags[1] << " in the check";
  }
}

// What a program writes to stderr before it ends.
std::string WordsOf(const std::vector<std::string>& command, const std::string& file) {
  std::vector<std::string> redirected = {"sh", "-c", "exec \"$@\" 2>" + file, "sh"};
  redirected.insert(redirected.end(), command.begin(), command.end());
  WaitForExit(StartProgram(redirected));
  std::ifstream words(file);
  return std::string(std::istreambuf_iterator<char>(words), std::istreambuf_iterator<char>());
}

TEST(DaemonTest, AMistakeInTheConfigFileIsNamedWithItsLine) {
  TestDaemon daemon;
  const std::string config = daemon.folder() + "/tenured.conf";
  const auto words = [&](const std::string& text) {
    std::ofstream(config) << text;
    return WordsOf({ProgramFolder() + "/tenured", "--check-config", "--config", config},
                   daemon.folder() + "/words");
  };
  EXPECT_NE(words("# times\nlease-tll=3s\n")
                .find(config + ":2: 'lease-tll' is no flag for this file; the nearest is "
                               "'lease-ttl'"),
            std::string::npos);
  EXPECT_NE(words("[daemon]\nlease-ttl=3s\n").find(config + ":1: the file has no sections"),
            std::string::npos);
  EXPECT_NE(words("lease-ttl=3s\nlease-ttl=4s\n").find("--lease-ttl is given more than once"),
            std::string::npos);
  std::filesystem::remove(config);
  std::filesystem::remove(daemon.folder() + "/words");
}

TEST(DaemonTest, AMissingWrongOrTooOldDriverEndsWithUnavailable) {
  EXPECT_EQ(RunAlone({"--driver", "/nonexistent/libcuda.so.1"}), kUnavailable);
  EXPECT_EQ(RunAlone({"--driver", "/etc/hostname"}), kUnavailable);
  EXPECT_EQ(RunAlone({"--driver", ProgramFolder() + "/tenured"}), kUnavailable);
}

TEST(DaemonTest, TheDeviceMayBeNamedByItsUuid) {
  std::string uuid;
  {
    TestDaemon daemon;
    uuid = daemon.GetStats().device_uuid();
  }
  TestDaemon daemon(TestDaemon::Options{.flags = {"--device", uuid}});
  EXPECT_EQ(daemon.GetStats().device_uuid(), uuid);
}

TEST(DaemonTest, AConfigFileSetsFlagsAndTheCommandLineWins) {
  TestDaemon daemon;
  ASSERT_EQ(daemon.Stop(), 0);
  const std::string good = daemon.folder() + "/good.conf";
  const std::string bad = daemon.folder() + "/bad.conf";
  std::ofstream(good) << "lease-ttl=3s\nisolation=tenant\n";
  std::ofstream(bad) << "lease-time=3s\n";
  EXPECT_EQ(RunAlone({"--check-config", "--config", good}), 0);
  EXPECT_EQ(RunAlone({"--check-config", "--config", bad}), kUsage);
  EXPECT_EQ(RunAlone({"--check-config", "--config", good, "--lease-ttl", "0s"}), kUsage);
  // Leading zeros are no sign of an octal number, of which 8 would be no digit.
  EXPECT_EQ(RunAlone({"--check-config", "--max-sessions", "08"}), 0);
  EXPECT_EQ(RunAlone({"--check-config", "--max-sessions", "0x10"}), kUsage);
}

TEST(DaemonTest, MetricsAreServedAndAgreeWithTheBooks) {
  // Without a reserve, which would be filled between the page and the answer to GetStats.
  TestDaemon daemon(
      TestDaemon::Options{.flags = {"--http", "127.0.0.1:19453", "--warm-reserve", "0"}});
  RawSession session(daemon.allocator());
  ASSERT_TRUE(session.Allocate(1000).ok());
  httplib::Client http("127.0.0.1", 19453);
  const httplib::Result page = http.Get("/metrics");
  ASSERT_TRUE(page);
  const v1::GetStatsResponse stats = daemon.GetStats();
  const std::string labels = "{UUID=\"" + stats.device_uuid() + "\",gpu=\"0\"}";
  for (const std::string& line :
       {"tenure_allocated_bytes" + labels + " 1024", "tenure_requested_bytes" + labels + " 1000",
        "tenure_reserved_bytes" + labels + " " + std::to_string(stats.reserved_bytes()),
        "tenure_live_allocations" + labels + " 1", std::string("tenure_allocations_total{"),
        std::string("tenure_frees_total{"), "tenure_serving" + labels + " 1",
        std::string("tenure_rpc_duration_seconds_bucket{"),
        std::string("tenure_reclaim_duration_seconds_count{"), std::string("tenure_build_info{"),
        std::string("tenure_sessions{"), std::string("tenure_quarantined_bytes{"),
        "tenure_segments" + labels + " 0", "tenure_segment_bytes" + labels + " 0",
        "tenure_survival{UUID=\"" + stats.device_uuid() + "\",gpu=\"0\",state=\"off\"} 1",
        std::string("tenure_device_memory_bytes{")}) {
    EXPECT_NE(page->body.find(line), std::string::npos) << line << "\nnot in\n" << page->body;
  }
  EXPECT_EQ(page->body.find("pid="), std::string::npos);
  // In OpenMetrics the family of a counter is its name without "_total", so that no other family
  // may have that name.
  for (const char* counter : {"allocations", "frees"}) {
    EXPECT_EQ(page->body.find(std::string("# TYPE tenure_") + counter + " "), std::string::npos);
  }
}

TEST(DaemonTest, AnOccupiedMetricsPortStopsNoStartAndIsTakenWhenItIsFree) {
  UniqueFd occupant(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(19454);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(occupant.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(occupant.get(), 1), 0);
  TestDaemon daemon(
      TestDaemon::Options{.flags = {"--http", "127.0.0.1:19454", "--log-level", "error"}});
  EXPECT_EQ(daemon.GetStats().health(), "SERVING");
  EXPECT_EQ(daemon.GetStats().metrics_address(), "127.0.0.1:19454");
  EXPECT_NE(daemon.GetStats().metrics_trouble().find("cannot listen on 127.0.0.1:19454"),
            std::string::npos);
  occupant.Reset();
  EXPECT_TRUE(Eventually([&] { return daemon.GetStats().metrics_trouble().empty(); }));
  EXPECT_TRUE(httplib::Client("127.0.0.1", 19454).Get("/metrics"));
}

// Makes one call by name with raw bytes, as a tool without the proto files does.
std::string CallRaw(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                    const std::string& bytes) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  grpc::Slice slice(bytes);
  const grpc::ByteBuffer request(&slice, 1);
  const auto call = stub.PrepareUnaryCall(&context, method, request, &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  if (!status.ok()) return "error " + std::to_string(status.error_code());
  std::vector<grpc::Slice> slices;
  if (!response.Dump(&slices).ok()) return "no response";
  std::string all;
  for (const grpc::Slice& one : slices)
    all.append(reinterpret_cast<const char*>(one.begin()), one.size());
  return all;
}

// A field of Protobuf's wire format with a text of less than 128 bytes.
std::string TextField(char number, const std::string& text) {
  std::string field = {static_cast<char>(number << 3 | 2), static_cast<char>(text.size())};
  return field.append(text);
}

// The answer of the standard health service about a service, or about the daemon ("").
std::string HealthOf(const TestDaemon& daemon, const std::string& service) {
  // HealthCheckRequest{service: ...}
  const std::string request = service.empty() ? "" : TextField(1, service);
  const std::string answer = CallRaw(daemon.NewChannel(), "/grpc.health.v1.Health/Check", request);
  if (answer == "\x08\x01") return "SERVING";
  return answer == "\x08\x02" ? "NOT_SERVING" : answer;
}

TEST(DaemonTest, HealthIsToldOfTheDaemonAndOfEachService) {
  TestDaemon daemon;
  for (const char* service : {"", "tenure.v1.Allocator", "tenure.v1.Stats", "tenure.v1.Admin"})
    EXPECT_EQ(HealthOf(daemon, service), "SERVING") << service;
  EXPECT_EQ(HealthOf(daemon, "tenure.v1.Other"), "error 5") << "an unknown service is NOT_FOUND";
}

TEST(DaemonTest, ADrainingDaemonSaysSoWhereverItIsAsked) {
  TestDaemon daemon(TestDaemon::Options{.flags = {"--http", "127.0.0.1:19455"}});
  RawSession session(daemon.allocator());
  const auto admin = v1::Admin::NewStub(daemon.NewChannel());
  grpc::ClientContext context;
  v1::DrainResponse response;
  ASSERT_TRUE(admin->Drain(&context, v1::DrainRequest(), &response).ok());
  for (const char* service : {"", "tenure.v1.Allocator"})
    EXPECT_EQ(HealthOf(daemon, service), "NOT_SERVING") << service;
  EXPECT_EQ(daemon.GetStats().health(), "NOT_SERVING");
  EXPECT_NE(daemon.GetStats().health_reason().find("draining"), std::string::npos);
  httplib::Client http("127.0.0.1", 19455);
  const std::string serving =
      "tenure_serving{UUID=\"" + daemon.GetStats().device_uuid() + "\",gpu=\"0\"} 0";
  EXPECT_NE(http.Get("/metrics")->body.find(serving), std::string::npos);
  EXPECT_EQ(http.Get("/healthz")->status, 503);
}

// The bytes of server reflection's answer to one request.
std::string Reflect(const TestDaemon& daemon, const std::string& request) {
  grpc::GenericStub stub(daemon.NewChannel());
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto tag = [](intptr_t number) { return reinterpret_cast<void*>(number); };
  void* got = nullptr;
  bool ok = false;
  const auto stream = stub.PrepareCall(
      &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  stream->StartCall(tag(1));
  queue.Next(&got, &ok);
  TENURE_CHECK(ok);
  grpc::Slice slice(request);
  stream->Write(grpc::ByteBuffer(&slice, 1), tag(2));
  queue.Next(&got, &ok);
  TENURE_CHECK(ok);
  grpc::ByteBuffer response;
  stream->Read(&response, tag(3));
  queue.Next(&got, &ok);
  TENURE_CHECK(ok);
  std::vector<grpc::Slice> slices;
  TENURE_CHECK(response.Dump(&slices).ok());
  std::string text;
  for (const grpc::Slice& one : slices)
    text.append(reinterpret_cast<const char*>(one.begin()), one.size());
  context.TryCancel();
  grpc::Status status;
  stream->Finish(&status, tag(4));
  queue.Next(&got, &ok);
  return text;
}

TEST(DaemonTest, ReflectionNamesAndDescribesTheServices) {
  TestDaemon daemon;
  // ServerReflectionRequest{list_services: ""}
  const std::string list = Reflect(daemon, std::string("\x3a\x00", 2));
  for (const std::string service :
       {"tenure.v1.Allocator", "tenure.v1.Stats", "tenure.v1.Admin", "grpc.health.v1.Health"}) {
    EXPECT_NE(list.find(service), std::string::npos) << service;
    // ServerReflectionRequest{file_containing_symbol: ...}, whose answer has the file's syntax.
    const std::string described = Reflect(daemon, TextField(4, service));
    EXPECT_NE(described.find("proto3"), std::string::npos) << service << " is not described";
  }
}

TEST(DaemonTest, AFailingDriverEndsServiceWithItsOwnExitCode) {
  if (OnRealDevice()) GTEST_SKIP() << "a real driver cannot be told to fail";
  // The first cuMemAlloc succeeds, and the second meets a lost context (719).
  TestDaemon daemon(
      TestDaemon::Options{.flags = {"--warm-reserve", "0"},
                          .environment = {"TENURE_EMULATED_FAULTS=cuMemAlloc_v2:2=719"}});
  RawSession session(daemon.allocator());
  ASSERT_TRUE(session.Allocate(MiB(4).value()).ok());
  EXPECT_EQ(session.Allocate(MiB(4).value()).error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(session.Allocate(100).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(daemon.WaitForEnd(), kLost);
}

TEST(DaemonTest, TheBooksAgreeWithTheDriver) {
  TestDaemon daemon;
  // The emulated driver returns to the same byte. A real one keeps some memory for page tables.
  const auto expect_same_other = [](const v1::GetStatsResponse& now,
                                    const v1::GetStatsResponse& before) {
    const uint64_t slack = OnRealDevice() ? now.total_bytes() / 1000 : 0;
    EXPECT_GE(now.other_bytes() + slack, before.other_bytes());
    EXPECT_LE(now.other_bytes(), before.other_bytes() + slack);
  };
  RawSession session(daemon.allocator());
  const v1::GetStatsResponse idle = daemon.GetStats();
  std::vector<v1::Token> tokens;
  for (const uint64_t size : {uint64_t{1}, KiB(300).value(), MiB(7).value(), MiB(100).value()}) {
    v1::Token token;
    ASSERT_TRUE(session.Allocate(size, &token).ok());
    tokens.push_back(token);
    const v1::GetStatsResponse now = daemon.GetStats();
    EXPECT_EQ(now.total_bytes(),
              now.driver_free_bytes() + now.reserved_bytes() + now.other_bytes());
    EXPECT_EQ(now.reserved_bytes(),
              now.leased_bytes() + now.warm_bytes() + now.quarantined_bytes());
    expect_same_other(now, idle);
  }
  for (const v1::Token& token : tokens) ASSERT_TRUE(session.Free(token.allocation_id()).ok());
  ASSERT_TRUE(session.Close().ok());
  EXPECT_EQ(daemon.GetStats().leased_bytes(), 0u);
  expect_same_other(daemon.GetStats(), idle);
}

}  // namespace
}  // namespace tenure::testing

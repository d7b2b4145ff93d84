#include "server/config.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include <CLI/CLI.hpp>

#include "common/cuda/driver_path.h"
#include "common/socket_path.h"
#include "common/spelling.h"
#include "common/status_macros.h"
#include "common/version.h"
#include "server/report/http.h"
#include "server/transport/allow_list.h"

namespace tenure::server {
namespace {

// The share of the device that may stay warm at most: warm memory is ready for the daemon's clients
// and unavailable to all other processes.
constexpr uint64_t kWarmLimitPercent = 25;
constexpr int kFirstHttpPort = 9450;
// Those of common/cuda/emulated/layout.h, which belongs to the emulated driver's own library.
constexpr Bytes kSmallestEmulated = MiB(16);
constexpr Bytes kLargestEmulated = GiB(1024);
constexpr absl::Duration kShortestTtl = absl::Milliseconds(100);
constexpr absl::Duration kLongestTtl = absl::Hours(24);

std::string CheckDuration(const std::string& text) {
  absl::Duration duration;
  if (absl::ParseDuration(text, &duration) && duration >= kShortestTtl && duration <= kLongestTtl)
    return "";
  return absl::StrCat("'", text, "' is not a time from 100ms to 24h, such as 10s");
}

// Checks the spelling only: ResolveSizes checks the value when the size of the device is known, so
// any whole will do here. CLI11 takes an empty text as success, and an OK status has no message.
std::string CheckSize(const std::string& text) {
  return std::string(ParseBytes(text, /*whole=*/GiB(1)).status().message());
}

std::string CheckHttp(const std::string& text) {
  if (text == "off") return "";
  return std::string(HttpServer::CheckAddress(text).message());
}

std::string CheckEmulatedMemory(const std::string& text) {
  const absl::StatusOr<Bytes> size = ParseBytes(text);
  if (size.ok() && *size >= kSmallestEmulated && *size <= kLargestEmulated) return "";
  return absl::StrCat("'", text, "' is not a size from ", FormatBytes(kSmallestEmulated), " to ",
                      FormatBytes(kLargestEmulated));
}

// As cuda::Identify reads it.
std::string CheckDevice(const std::string& text) {
  const bool ordinal = !text.empty() && text.size() < 6 &&
                       std::all_of(text.begin(), text.end(), absl::ascii_isdigit) &&
                       (text == "0" || text.front() != '0');
  if (ordinal || absl::StartsWithIgnoreCase(text, "GPU-")) return "";
  return absl::StrCat("'", text, "' is neither an ordinal nor a UUID that begins with GPU-");
}

std::string CheckDriver(const std::string& text) {
  const absl::Status found = cuda::ResolveDriver(text).status();
  // Whether there is such a file, only the start has to know.
  return absl::IsInvalidArgument(found) ? std::string(found.message()) : "";
}

std::string CheckSocket(const std::string& path) {
  if (path.empty() || path.back() == '/')
    return absl::StrCat("'", path, "' is the path of no socket");
  const size_t longest = std::max(path.size(), FdSocketPath(path).size());
  if (longest <= kMaxSocketPath) return "";
  return absl::StrCat("the path of a socket has at most ", kMaxSocketPath,
                      " characters; with this one, one would have ", longest);
}

// To be the transformation of each flag that is a count.
CLI::Validator Decimal() { return CLI::Validator(&ReadDecimal, ""); }

// Times as the command line spells them. CLI11 cannot parse them, so they stay text until the flags
// are parsed.
struct DurationTexts {
  std::string lease_ttl;
  std::string hung_grace;
};

void AddTenantFlags(CLI::App& app, Config& config) {
  app.add_option("--max-tenant-bytes", config.max_tenant_bytes,
                 "memory that one tenant (uid) may hold, quarantined memory included; a size or a "
                 "share of the device")
      ->check(CheckSize)
      ->capture_default_str();
  app.add_option("--max-tenant-sessions", config.max_tenant_sessions,
                 "sessions that one tenant may have at once")
      ->transform(Decimal())
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 20))
      ->capture_default_str();
  app.add_option("--max-tenant-connections", config.max_tenant_connections,
                 "connections that one tenant may have at once")
      // As many as there can be descriptors: kMaxDescriptors in descriptor_limit.cc.
      ->transform(Decimal())
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--max-tenant-requests", config.max_tenant_requests,
                 "requests that one tenant may make within a second")
      ->transform(Decimal())
      ->check(CLI::Range(uint64_t{1}, uint64_t{10'000'000}))
      ->capture_default_str();
  app.add_option(
         "--allow-user", config.allow_users,
         "serve only these users, by name or uid, separated by commas, and root [every user "
         "that may connect]")
      ->delimiter(',');
  app.add_option("--allow-group", config.allow_groups,
                 "serve members of these groups, too, by name or gid, separated by commas")
      ->delimiter(',');
}

void AddFaultFlags(CLI::App& app, Config& config, DurationTexts& times) {
  app.add_option("--lease-ttl", times.lease_ttl,
                 "a session without a keep-alive for this long is suspended")
      ->check(CheckDuration)
      ->capture_default_str();
  app.add_option(
         "--hung-client", config.hung_client,
         "if a session stays suspended, 'keep' its process and its memory, or 'kill' the process")
      ->check(CLI::IsMember({"keep", "kill"}))
      ->capture_default_str();
  app.add_option("--hung-grace", times.hung_grace,
                 "how long a session may stay suspended before its process is killed")
      ->check(CheckDuration)
      ->capture_default_str();
  app.add_flag("--allow-mps", config.allow_mps,
               "serve although an MPS daemon runs; regions of dead clients then go back to the "
               "driver instead of being used again");
}

void AddKeeperFlags(CLI::App& app, Config& config) {
  // Not allowed in the config file: the keeper's child reads the same file, and would be a keeper
  // again.
  app.add_flag("--keeper", config.keeper,
               "run the daemon as a child, start it again whenever it fails, and hold the file "
               "descriptors that it stores; for hosts where systemd does not")
      ->configurable(false);
  app.add_option(
         "--fd-store-max", config.fd_store_max,
         "file descriptors that outlive the daemon: the maximum of the keeper [4096], or, under a "
         "systemd before version 254, the number in FileDescriptorStoreMax= [0]")
      ->transform(Decimal())
      ->check(CLI::Range(uint64_t{0}, uint64_t{1} << 20));
}

void AddFlags(CLI::App& app, Config& config, DurationTexts& times) {
  app.add_option("--device", config.device, "the GPU to own: an ordinal, or its UUID (GPU-...)")
      ->check(CheckDevice)
      ->capture_default_str();
  app.add_option("--driver", config.driver,
                 "'cuda' (libcuda.so.1), 'emulated', or the path of a libcuda")
      ->check(CheckDriver)
      ->capture_default_str();
  app.add_option("--emulated-memory", config.emulated_memory, "size of the emulated device")
      ->check(CheckEmulatedMemory)
      ->capture_default_str();
  app.add_option("--socket", config.socket,
                 "path of the gRPC socket [/run/tenured/INDEX/grpc.sock, unprivileged "
                 "$XDG_RUNTIME_DIR/tenured/INDEX/grpc.sock]")
      ->check(CheckSocket);
  app.add_option("--http", config.http,
                 "ADDRESS:PORT that serves /metrics, or 'off' [127.0.0.1:9450 + INDEX]")
      ->check(CheckHttp);
  AddFaultFlags(app, config, times);
  app.add_option(
         "--isolation", config.isolation,
         "'tenant': CUDA IPC handles unless asked otherwise, which any user of the device "
         "could open; 'strict': only memory by file descriptor, which only the processes can "
         "map that the daemon grants it to")
      ->check(CLI::IsMember({"tenant", "strict"}))
      ->capture_default_str();
  app.add_option("--warm-reserve", config.warm_reserve,
                 "memory kept ready for grants without a driver call; a size or a share of the "
                 "device, 25% at most")
      ->check(CheckSize)
      ->capture_default_str();
  app.add_option("--max-pool-block", config.max_pool_block,
                 "blocks up to this size come from pools, larger ones are regions of their own; "
                 "1MiB at most")
      ->check(CheckSize)
      ->capture_default_str();
  app.add_option("--max-sessions", config.max_sessions, "sessions served at once")
      // As many as there are ids: kMaxSlots.
      ->transform(Decimal())
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 20))
      ->capture_default_str();
  AddTenantFlags(app, config);
  AddKeeperFlags(app, config);
  app.add_option("--log-level", config.log_level,
                 "the least severe messages that are written to stderr")
      ->check(CLI::IsMember({"debug", "info", "warn", "error", "off"}))
      ->capture_default_str();
  app.add_flag("--check-config", config.check_config, "check flags and config file, then exit");
  app.set_config("--config", "",
                 "file with a line 'flag=value' for each flag to set; the command line wins");
  app.set_version_flag("--version", absl::StrCat("tenured ", kVersion));
}

// The first line of a config file whose key is no flag, in words; empty if there is none. CLI11
// names neither file nor line.
std::string UnknownKey(const CLI::App& app, const std::string& path) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_configurable()) flags.push_back(option->get_single_name());
  }
  std::ifstream file(path);
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    const absl::string_view text = absl::StripAsciiWhitespace(line);
    if (absl::StartsWith(text, "[")) {
      return absl::StrCat(path, ":", number, ": the file has no sections, such as ",
                          text.substr(0, 64));
    }
    const std::string key(absl::StripAsciiWhitespace(text.substr(0, text.find('='))));
    if (text.empty() || absl::string_view("#;").find(text.front()) != absl::string_view::npos ||
        std::find(flags.begin(), flags.end(), key) != flags.end()) {
      continue;
    }
    const std::string nearest = NearestWord(key, flags);
    return absl::StrCat(path, ":", number, ": '", key.substr(0, 64), "' is no flag for this file",
                        nearest.empty() ? "" : absl::StrCat("; the nearest is '", nearest, "'"));
  }
  return "";
}

// What is wrong with the command line or the config file: in CLI11's words, where they say it.
std::string Explain(CLI::App& app, const CLI::ParseError& error) {
  const std::string text = error.what();
  const CLI::Option* file = app.get_config_ptr();
  const std::string path = file->count() == 0 ? "" : file->as<std::string>();
  if (error.get_name() == "ConfigError") {
    const std::string unknown = UnknownKey(app, path);
    return unknown.empty() ? absl::StrCat(path, ": ", text) : unknown;
  }
  const size_t flag_end = text.find(": At Most 1 required");
  if (flag_end != std::string::npos) {
    return absl::StrCat(text.substr(0, flag_end),
                        " is given more than once: it may stand once on the command line, and once "
                        "in the config file, over which the command line has precedence");
  }
  return text;
}

// What can be checked without the device, and not for one flag alone.
absl::Status CheckTogether(const Config& config) {
  TENURE_RETURN_IF_ERROR(AllowList::Make(config.allow_users, config.allow_groups).status());
  std::optional<Bytes> total;
  if (config.driver == "emulated") {
    TENURE_ASSIGN_OR_RETURN(total, ParseBytes(config.emulated_memory));
  }
  return ResolveSizes(config, total).status();
}

ParsedConfig Mistake(const std::string& words) {
  return ParsedConfig{std::nullopt, kExitUsage,
                      absl::StrCat("tenured: ", words, "\n`tenured --help` lists the flags\n")};
}

}  // namespace

ParsedConfig ParseConfig(int argc, const char* const* argv) {
  CLI::App app("tenured owns the memory of one GPU and leases it to other processes over gRPC.",
               "tenured");
  Config config;
  DurationTexts times = {"10s", "1m"};
  AddFlags(app, config, times);
  // A line of the config file that names no flag is an error: it may be a limit that was misspelt.
  app.allow_config_extras(CLI::config_extras_mode::error);
  app.footer(
      "Exit codes: 0 stopped as asked, 64 wrong flag or config, 69 no driver, no such device,\n"
      "another daemon owns it or MPS runs, 70 the driver failed while serving, 71 the host had no\n"
      "memory left, 73 the socket or its folder cannot be used, 75 as 64 while memory is kept for\n"
      "the next start.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // --help and --version come here too.
    if (error.get_exit_code() != 0) return Mistake(Explain(app, error));
    std::ostringstream text;
    app.exit(error, text, text);
    return ParsedConfig{std::nullopt, kExitOk, text.str()};
  }
  // CheckDuration has refused everything that does not parse.
  TENURE_CHECK(absl::ParseDuration(times.lease_ttl, &config.lease_ttl));
  TENURE_CHECK(absl::ParseDuration(times.hung_grace, &config.hung_grace));
  if (absl::Status checked = CheckTogether(config); !checked.ok()) {
    return Mistake(std::string(checked.message()));
  }
  return ParsedConfig{std::move(config), kExitOk};
}

absl::StatusOr<Sizes> ResolveSizes(const Config& config, std::optional<Bytes> known_total) {
  // Every size fits a device that is not known, and a share is none the less a share of it.
  const Bytes device_total = known_total.value_or(Bytes(uint64_t{1} << 62));
  // Divided first: the product of a large device and a percentage must not overflow.
  const Bytes limit(device_total.value() / 100 * kWarmLimitPercent);
  const std::string of_device =
      known_total ? absl::StrCat(", which has ", FormatBytes(device_total)) : "";
  const absl::StatusOr<Bytes> reserve = ParseBytes(config.warm_reserve, device_total);
  // Without a whole, so that a share of the device is refused below.
  const absl::StatusOr<Bytes> block = ParseBytes(config.max_pool_block);
  const absl::StatusOr<Bytes> tenant = ParseBytes(config.max_tenant_bytes, device_total);
  if (!reserve.ok() || *reserve > limit) {
    return absl::InvalidArgumentError(absl::StrCat("--warm-reserve ", config.warm_reserve,
                                                   " is above ", kWarmLimitPercent,
                                                   "% of the device", of_device));
  }
  if (!block.ok() || *block < KiB(1) || *block > MiB(1)) {
    return absl::InvalidArgumentError(absl::StrCat("--max-pool-block ", config.max_pool_block,
                                                   " is not a size from 1KiB to 1MiB"));
  }
  if (!tenant.ok() || *tenant < MiB(2) || *tenant > device_total) {
    return absl::InvalidArgumentError(absl::StrCat("--max-tenant-bytes ", config.max_tenant_bytes,
                                                   " is not a size from 2MiB to all of the device",
                                                   of_device));
  }
  return Sizes{*reserve, limit, *tenant, *block};
}

std::string SocketPath(const Config& config, int ordinal) {
  return config.socket.empty() ? ListenPath(ordinal) : config.socket;
}

std::string HttpAddress(const Config& config, int ordinal) {
  if (!config.http.empty()) return config.http;
  // One port for each device, so that the daemons of one host need no flag.
  return absl::StrCat("127.0.0.1:", kFirstHttpPort + ordinal);
}

}  // namespace tenure::server

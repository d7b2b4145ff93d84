// The flags of tenured: the decisions of an operator.
#ifndef SERVER_CONFIG_H_
#define SERVER_CONFIG_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "common/bytes.h"
#include "server/keeper/exit_code.h"

namespace tenure::server {

// The flags, checked one by one. A size may be a share of the device, so sizes stay text until the
// device is known; ResolveSizes reads them.
//
// Thread safety: thread-compatible.
struct Config {
  std::string device = "0";
  std::string driver = "cuda";
  std::string emulated_memory = "8GiB";
  // Path of the gRPC socket. Empty: the usual path for this user and device.
  std::string socket;
  // "off", or ADDRESS:PORT. Empty: 127.0.0.1, port 9450 + the device's ordinal.
  std::string http;
  absl::Duration lease_ttl = absl::Seconds(10);
  std::string isolation = "tenant";
  std::string warm_reserve = "2%";
  std::string max_pool_block = "1MiB";
  uint64_t max_sessions = 16384;
  std::string max_tenant_bytes = "100%";
  uint64_t max_tenant_sessions = 16384;
  int max_tenant_connections = 16384;
  uint64_t max_tenant_requests = 100'000;  // a second
  std::vector<std::string> allow_users;
  std::vector<std::string> allow_groups;
  std::string hung_client = "keep";
  absl::Duration hung_grace = absl::Minutes(1);
  bool allow_mps = false;
  // Run as the keeper: hold file descriptors, and run the daemon as a child.
  bool keeper = false;
  // nullopt: the keeper takes its default, and the daemon the number of its supervisor ($FDSTORE).
  std::optional<uint64_t> fd_store_max;
  std::string log_level = "info";
  // Check the flags and the config file, then exit.
  bool check_config = false;
};

// Sizes of a Config once the device is known.
struct Sizes {
  Bytes warm_reserve;
  Bytes warm_limit;
  Bytes tenant_limit;
  Bytes max_pool_block;
};

// Reads the command line and the config file that it names, and checks all that can be checked
// without the device: the start and --check-config refuse the same. After --help, --version or a
// mistake there is an exit code instead of a config, and the text to print.
struct ParsedConfig {
  std::optional<Config> config;
  int exit_code = kExitOk;
  std::string text = {};
};
ParsedConfig ParseConfig(int argc, const char* const* argv);

// Without a device (nullopt), shares and fixed limits are checked, and the sizes mean nothing.
// Errors: INVALID_ARGUMENT: a size is out of range; the message names the flag.
absl::StatusOr<Sizes> ResolveSizes(const Config& config, std::optional<Bytes> known_total);
// Of the gRPC socket of the device with this ordinal. Empty if this user has no default.
std::string SocketPath(const Config& config, int ordinal);
// Where /metrics of the device with this ordinal is served; "off" if nowhere.
std::string HttpAddress(const Config& config, int ordinal);

}  // namespace tenure::server

#endif  // SERVER_CONFIG_H_

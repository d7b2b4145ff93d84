// What an operator decides.
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

// The flags, checked. Sizes that are a share of the device stay text until the device is known.
//
// Thread safety: thread-compatible.
struct Config {
  std::string device = "0";
  std::string driver = "cuda";
  std::string emulated_memory = "8GiB";
  // Empty: where daemons of this user listen.
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
  // This process shall keep file descriptors and run the daemon as its child.
  bool keeper = false;
  // nullopt: for the keeper its default, for the daemon what its supervisor says ($FDSTORE).
  std::optional<uint64_t> fd_store_max;
  std::string log_level = "info";
  // The files were checked, nothing else is wanted.
  bool check_config = false;
};

// Sizes of a Config once the device is known.
struct Sizes {
  Bytes warm_reserve;
  Bytes warm_limit;
  Bytes tenant_limit;
  Bytes max_pool_block;
};

// Reads the command line and the config file that it names. On --help, --version or a mistake the
// text has been printed and the exit code is returned instead of a config.
struct ParsedConfig {
  std::optional<Config> config;
  int exit_code = kExitOk;
};
ParsedConfig ParseConfig(int argc, const char* const* argv);

// INVALID_ARGUMENT in words that name the flag.
absl::StatusOr<Sizes> ResolveSizes(const Config& config, Bytes device_total);

}  // namespace tenure::server

#endif  // SERVER_CONFIG_H_

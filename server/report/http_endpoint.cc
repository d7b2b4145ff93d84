#include "server/report/http_endpoint.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include <spdlog/spdlog.h>

namespace tenure::server {
namespace {

constexpr absl::Duration kTryPause = absl::Seconds(1);
// The share of the time that tries may take: a name may be looked up for seconds, and the thread
// that tries has other work.
constexpr int kPausePerTry = 10;

}  // namespace

HttpEndpoint::HttpEndpoint(std::string address, HttpServer::Pages pages, const Clock& clock)
    : address_(std::move(address)), pages_(std::move(pages)), clock_(clock) {
  if (address_ != "off") Try();
}

void HttpEndpoint::Maintain() {
  if (address_ == "off" || server_ != nullptr || clock_.Now() < next_try_) return;
  Try();
}

void HttpEndpoint::Try() {
  const BootTime before = clock_.Now();
  absl::StatusOr<std::unique_ptr<HttpServer>> server = HttpServer::Start(address_, pages_);
  const BootTime after = clock_.Now();
  next_try_ = after + std::max(kTryPause, (after - before) * kPausePerTry);
  State now = {address_, std::string(server.status().message())};
  if (server.ok()) {
    server_ = *std::move(server);
    // Port 0 has become another one.
    now = {absl::StrCat(address_.substr(0, address_.rfind(':')), ":", server_->port()), ""};
    spdlog::info("metrics at http://{}/metrics", now.address);
  } else if (now.trouble != state().trouble) {
    spdlog::warn("no metrics for now: {}; trying again each second", now.trouble);
  }
  const absl::MutexLock lock(&mu_);
  state_ = std::move(now);
}

HttpEndpoint::State HttpEndpoint::state() const {
  const absl::MutexLock lock(&mu_);
  return state_;
}

}  // namespace tenure::server

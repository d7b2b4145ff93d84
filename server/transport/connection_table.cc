#include "server/transport/connection_table.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "common/check.h"

namespace tenure::server {
namespace {

// What the daemon needs besides connections: files, the driver's devices, gRPC's own.
constexpr size_t kOtherDescriptors = 128;

}  // namespace

ConnectionTable::ConnectionTable(const Clock& clock, Options options)
    : clock_(clock),
      options_(std::move(options)),
      by_socket_(static_cast<size_t>(options_.descriptors)) {}

std::shared_ptr<TenantLoad> ConnectionTable::LoadOf(uid_t uid) {
  std::shared_ptr<TenantLoad>& load = loads_[uid];
  if (load == nullptr) load = std::make_shared<TenantLoad>(options_.tenant_requests_per_second);
  return load;
}

absl::StatusOr<ConnectionTicket> ConnectionTable::Admit(uid_t uid) {
  absl::MutexLock lock(&mu_);
  // A connection is a descriptor, also one that has not said anything yet, and so is each process
  // behind them. There are few users to sum over.
  size_t admitted = 0;
  for (const auto& [user, load] : loads_) {
    admitted += static_cast<size_t>(load->connections.load(std::memory_order_relaxed));
  }
  if (admitted + processes_.size() + kOtherDescriptors >= by_socket_.size()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the daemon has ", admitted,
                     " connections, for which its limit of open files just suffices"));
  }
  std::shared_ptr<TenantLoad> load = LoadOf(uid);
  if (load->connections.load(std::memory_order_relaxed) >= options_.max_tenant_connections) {
    return absl::ResourceExhaustedError(
        absl::StrCat("uid ", uid, " has ", options_.max_tenant_connections,
                     " connections, which is as many as it may have (--max-tenant-connections)"));
  }
  load->connections.fetch_add(1, std::memory_order_relaxed);
  return ConnectionTicket(std::move(load));
}

void ConnectionTable::Enter(int socket, Caller caller, ConnectionTicket ticket) {
  absl::MutexLock lock(&mu_);
  std::shared_ptr<TokenBucket> resets;
  if (caller.ok()) {
    Process& process = processes_[(*caller)->key()];
    // The same process may have become another user since.
    const bool known = process.peer != nullptr && process.peer->uid() == (*caller)->uid() &&
                       process.peer->gid() == (*caller)->gid();
    if (known) caller = process.peer;
    process.peer = *caller;
    ++process.connections;
    std::shared_ptr<TokenBucket>& of_process = resets_[(*caller)->key()];
    if (of_process == nullptr) of_process = FrameMeter::NewResets();
    resets = of_process;
  }
  if (resets == nullptr) resets = FrameMeter::NewResets();
  // The limit of open files is the hard one, which nobody raises under a running daemon.
  TENURE_CHECK(static_cast<size_t>(socket) < by_socket_.size());
  auto connection =
      std::make_shared<Connection>(socket, std::move(caller), std::move(ticket), std::move(resets));
  by_socket_[static_cast<size_t>(socket)].store(connection.get(), std::memory_order_release);
  TENURE_CHECK(connections_.emplace(socket, std::move(connection)).second);
}

void ConnectionTable::NoteClosing(int socket) {
  if (Serving(socket) == nullptr) return;
  std::shared_ptr<Connection> connection;
  absl::MutexLock lock(&mu_);
  const auto found = connections_.find(socket);
  if (found == connections_.end()) return;
  connection = std::move(found->second);
  connections_.erase(found);
  by_socket_[static_cast<size_t>(socket)].store(nullptr, std::memory_order_release);
  connection->NoteClosed();
  if (!connection->caller().ok()) return;
  const auto process = processes_.find((*connection->caller())->key());
  if (--process->second.connections == 0) processes_.erase(process);
}

ConnectionTable::Caller ConnectionTable::Find(absl::string_view peer) {
  int socket = -1;
  std::shared_ptr<Connection> connection;
  if (absl::ConsumePrefix(&peer, "fd:") && absl::SimpleAtoi(peer, &socket)) {
    absl::ReaderMutexLock lock(&mu_);
    const auto found = connections_.find(socket);
    if (found != connections_.end()) connection = found->second;
  }
  if (connection == nullptr) {
    return absl::InternalError("the connection did not come through the daemon's listener");
  }
  if (!connection->caller().ok() || connection->load().requests.Take(clock_.Now())) {
    return connection->caller();
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      (*connection->caller())->tenant().ToString(), " makes more than ",
      options_.tenant_requests_per_second,
      " requests a second, which is as many as one tenant may make; ask for several blocks at once "
      "(AllocateBatch), or raise --max-tenant-requests"));
}

void ConnectionTable::Cut(Connection& connection, const absl::Status& why) {
  // Counted first: whoever sees the connection end finds it in the count.
  cut_.fetch_add(1, std::memory_order_relaxed);
  connection.Cut();
  if (options_.on_cut) options_.on_cut(connection, why);
}

void ConnectionTable::CutStuck() {
  const BootTime now = clock_.Now();
  std::vector<std::shared_ptr<Connection>> all;
  {
    absl::MutexLock lock(&mu_);
    absl::erase_if(resets_, [now](const auto& of_process) {
      return of_process.second.use_count() == 1 && of_process.second->IsFull(now);
    });
    all.reserve(connections_.size());
    for (const auto& [socket, connection] : connections_) all.push_back(connection);
  }
  for (const std::shared_ptr<Connection>& connection : all) {
    if (connection->IsStuck(now, options_.patience)) {
      Cut(*connection, absl::ResourceExhaustedError("it leaves its answers unread"));
    }
  }
}

bool ConnectionTable::IsConnected(const ProcessKey& process) const {
  absl::ReaderMutexLock lock(&mu_);
  return processes_.contains(process);
}

size_t ConnectionTable::size() const {
  absl::ReaderMutexLock lock(&mu_);
  return connections_.size();
}

}  // namespace tenure::server

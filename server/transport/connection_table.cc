#include "server/transport/connection_table.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "common/check.h"

namespace tenure::server {
namespace {

// Descriptors that the daemon needs for other things: files, the driver's devices, gRPC's own.
constexpr size_t kOtherDescriptors = 128;

absl::Status NotOurs() {
  return absl::InternalError("the connection did not come through the daemon's listener");
}

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

absl::StatusOr<ConnectionPermit> ConnectionTable::Permit(uid_t uid) {
  absl::MutexLock lock(&mu_);
  // Permits are counted, not connections_: a connection that has sent nothing yet is not in the
  // table, and holds a descriptor all the same. Each process holds one more, its pidfd. The sum is
  // short, because there is one entry for each user.
  size_t admitted = 0;
  for (const auto& [user, load] : loads_) {
    admitted += static_cast<size_t>(load->connections.load(std::memory_order_relaxed));
  }
  if (admitted + processes_.size() + kOtherDescriptors >=
      static_cast<size_t>(options_.max_descriptors)) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the daemon has ", admitted, " connections, and its limit of open files allows no more"));
  }
  std::shared_ptr<TenantLoad> load = LoadOf(uid);
  if (load->connections.load(std::memory_order_relaxed) >= options_.max_tenant_connections) {
    return absl::ResourceExhaustedError(
        absl::StrCat("uid ", uid, " has ", options_.max_tenant_connections,
                     " connections, which is as many as it may have (--max-tenant-connections)"));
  }
  // The limit cannot be passed between the check and the count: only this function adds, under the
  // lock. Permits are returned without the lock, which can only make room.
  load->connections.fetch_add(1, std::memory_order_relaxed);
  return ConnectionPermit(std::move(load));
}

void ConnectionTable::AddToProcess(Caller& caller) {
  Process& process = processes_[(*caller)->key()];
  // The same process may have become another user since its last connection. The new connection
  // then needs a Peer of its own, and so do those that follow it.
  const bool known = process.peer != nullptr && process.peer->uid() == (*caller)->uid() &&
                     process.peer->gid() == (*caller)->gid();
  if (known) caller = process.peer;
  process.peer = *caller;
  ++process.connections;
}

std::shared_ptr<TokenBucket> ConnectionTable::ResetsOf(const Caller& caller) {
  if (!caller.ok()) return FrameMeter::NewResets();
  std::shared_ptr<TokenBucket>& resets = resets_[(*caller)->key()];
  if (resets == nullptr) resets = FrameMeter::NewResets();
  return resets;
}

bool ConnectionTable::Add(int socket, Caller caller, ConnectionPermit permit) {
  // The limit of open files was raised under the running daemon.
  if (static_cast<size_t>(socket) >= by_socket_.size()) return false;
  absl::MutexLock lock(&mu_);
  if (caller.ok()) AddToProcess(caller);
  std::shared_ptr<TokenBucket> resets = ResetsOf(caller);
  auto connection =
      std::make_shared<Connection>(socket, std::move(caller), std::move(permit), std::move(resets));
  by_socket_[static_cast<size_t>(socket)].store(connection.get(), std::memory_order_release);
  TENURE_CHECK(connections_.emplace(socket, std::move(connection)).second);
  return true;
}

void ConnectionTable::Remove(int socket) {
  // Without the lock, because this runs for each close(2) of the process.
  if (FindBySocket(socket) == nullptr) return;
  // Declared before the lock and so destroyed after it: the last connection of a process closes the
  // pidfd of its Peer, and no other thread should wait for that.
  std::shared_ptr<Connection> connection;
  absl::MutexLock lock(&mu_);
  const auto found = connections_.find(socket);
  if (found == connections_.end()) return;
  connection = std::move(found->second);
  connections_.erase(found);
  by_socket_[static_cast<size_t>(socket)].store(nullptr, std::memory_order_release);
  // CutStuck may hold a reference to this connection. From here on its Cut does nothing.
  connection->NoteClosed();
  if (!connection->caller().ok()) return;
  const auto process = processes_.find((*connection->caller())->key());
  if (--process->second.connections == 0) processes_.erase(process);
}

std::shared_ptr<Connection> ConnectionTable::FindByName(absl::string_view peer) const {
  int socket = -1;
  if (!absl::ConsumePrefix(&peer, "fd:") || !absl::SimpleAtoi(peer, &socket)) return nullptr;
  absl::ReaderMutexLock lock(&mu_);
  const auto found = connections_.find(socket);
  return found == connections_.end() ? nullptr : found->second;
}

ConnectionTable::Caller ConnectionTable::FindPrepaid(absl::string_view peer) const {
  const std::shared_ptr<Connection> connection = FindByName(peer);
  return connection == nullptr ? NotOurs() : connection->caller();
}

void ConnectionTable::ChargeLater(absl::string_view peer) {
  const std::shared_ptr<Connection> connection = FindByName(peer);
  if (connection == nullptr || connection->load().requests.Take(clock_.Now())) return;
  Cut(*connection, TooManyRequests(*connection));
}

ConnectionTable::Caller ConnectionTable::Find(absl::string_view peer) {
  const std::shared_ptr<Connection> connection = FindByName(peer);
  if (connection == nullptr) return NotOurs();
  // A refused caller gets its own error and costs its tenant no request.
  if (!connection->caller().ok() || connection->load().requests.Take(clock_.Now())) {
    return connection->caller();
  }
  return TooManyRequests(*connection);
}

absl::Status ConnectionTable::TooManyRequests(const Connection& connection) const {
  return absl::ResourceExhaustedError(absl::StrCat(
      (*connection.caller())->tenant().ToString(), " makes more than ",
      options_.tenant_requests_per_second,
      " requests a second, which is as many as one tenant may make; ask for several blocks at once "
      "(AllocateBatch), or raise --max-tenant-requests"));
}

void ConnectionTable::Cut(Connection& connection, const absl::Status& why) {
  // Counted before the shutdown: a client that sees its connection end and then reads the
  // statistics finds it in the count.
  cut_.fetch_add(1, std::memory_order_relaxed);
  connection.Cut();
  if (options_.on_cut) options_.on_cut(connection, why);
}

void ConnectionTable::CutStuck() {
  const BootTime now = clock_.Now();
  std::vector<std::shared_ptr<Connection>> all;
  {
    absl::MutexLock lock(&mu_);
    // A count can be dropped when no connection uses it and it is full again: the process would get
    // the same allowance from a new one.
    absl::erase_if(resets_, [now](const auto& of_process) {
      return of_process.second.use_count() == 1 && of_process.second->IsFull(now);
    });
    all.reserve(connections_.size());
    for (const auto& [socket, connection] : connections_) all.push_back(connection);
  }
  // Outside the lock, because Cut makes a system call and on_cut writes to the log.
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

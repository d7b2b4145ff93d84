#include "server/transport/listener.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include <spdlog/spdlog.h>

#include "common/check.h"
#include "common/socket_path.h"
#include "common/status_macros.h"
#include "server/transport/runtime_folder.h"

namespace tenure::server {
namespace {

constexpr int kBacklog = 4096;
// The most connections that are accepted before those with first bytes are handled. A client that
// connects without end cannot delay the others by more than this.
constexpr int kAcceptedAtOnce = 64;
// How often silent connections and unread answers are looked for.
constexpr int kTickMs = 200;
// How often the socket's file is looked for.
constexpr absl::Duration kFileCheckPause = absl::Seconds(1);

sockaddr_un AddressOf(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

const sockaddr* Generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

// Removes a socket file that an earlier daemon left behind.
absl::Status ClearPath(const std::string& path) {
  struct stat info = {};
  if (lstat(path.c_str(), &info) != 0) return absl::OkStatus();
  if (!S_ISSOCK(info.st_mode)) {
    return absl::AlreadyExistsError(
        absl::StrCat(path, " exists and is not a socket; remove it or choose another --socket"));
  }
  // The file says nothing about the process that made it. Only a connection that is refused proves
  // that no process listens.
  const UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = AddressOf(path);
  if (connect(probe.get(), Generic(address), sizeof address) == 0 || errno != ECONNREFUSED) {
    return absl::AlreadyExistsError(
        absl::StrCat("another program listens on ", path, "; stop it or choose another --socket"));
  }
  if (unlink(path.c_str()) != 0)
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot remove the stale socket ", path));
  return absl::OkStatus();
}

// The process that wrote the bytes that wait in the socket. nullopt when the peer has closed the
// connection or the kernel names no writer.
std::optional<ucred> WriterOf(int socket) {
  char byte = 0;
  iovec data = {&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(ucred))> control = {};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  // MSG_PEEK leaves the byte in the socket for gRPC. The kernel never joins bytes of two writers in
  // one read, so one byte names the writer of all that a first read returns.
  if (recvmsg(socket, &message, MSG_PEEK | MSG_DONTWAIT) <= 0) return std::nullopt;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_CREDENTIALS) continue;
    ucred writer = {};
    std::memcpy(&writer, CMSG_DATA(header), sizeof writer);
    return writer;
  }
  return std::nullopt;
}

UniqueFd OpenReserve() { return UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC)); }

}  // namespace

absl::StatusOr<std::unique_ptr<Listener>> Listener::Bind(ConnectionTable& table, const Clock& clock,
                                                         Options options) {
  const std::string& path = options.path;
  if (path.empty() || path.size() > kMaxSocketPath) {
    return absl::InvalidArgumentError(absl::StrCat("a socket path has 1 to ", kMaxSocketPath,
                                                   " characters; this one has ", path.size()));
  }
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll || !wake) return absl::ErrnoToStatus(errno, "cannot open the listener");
  TENURE_ASSIGN_OR_RETURN(Bound bound, BindFile(path));
  return std::unique_ptr<Listener>(new Listener(table, clock, std::move(options), std::move(bound),
                                                std::move(epoll), std::move(wake)));
}

absl::StatusOr<Listener::Bound> Listener::BindFile(const std::string& path) {
  TENURE_RETURN_IF_ERROR(MakeRuntimeFolder(path).status());
  TENURE_RETURN_IF_ERROR(ClearPath(path));

  Bound bound;
  bound.socket.Reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!bound.socket) return absl::ErrnoToStatus(errno, "cannot open a socket");
  const sockaddr_un address = AddressOf(path);
  if (bind(bound.socket.get(), Generic(address), sizeof address) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot bind ", path));
  }
  struct stat info = {};
  // The mode is set between bind and listen: before listen no process can connect.
  if (lstat(path.c_str(), &info) != 0 || chmod(path.c_str(), 0660) != 0 ||
      listen(bound.socket.get(), kBacklog) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot listen on ", path));
  }
  bound.device = info.st_dev;
  bound.inode = info.st_ino;
  const int on = 1;  // accepted sockets inherit it
  TENURE_CHECK(setsockopt(bound.socket.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
  return bound;
}

Listener::Listener(ConnectionTable& table, const Clock& clock, Options options, Bound bound,
                   UniqueFd epoll, UniqueFd wake)
    : table_(table),
      clock_(clock),
      options_(std::move(options)),
      bound_(std::move(bound)),
      epoll_(std::move(epoll)),
      wake_(std::move(wake)),
      reserve_(OpenReserve()) {}

Listener::~Listener() {
  Stop();
  RemoveFile();
}

bool Listener::OwnsFile() const {
  struct stat info = {};
  return lstat(options_.path.c_str(), &info) == 0 && info.st_dev == bound_.device &&
         info.st_ino == bound_.inode;
}

void Listener::RemoveFile() {
  // By now the path may lead to the socket of another daemon.
  if (OwnsFile()) unlink(options_.path.c_str());
}

void Listener::Start(Handler handler) {
  handler_ = std::move(handler);
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.fd = wake_.get();
  TENURE_CHECK(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event) == 0);
  TENURE_CHECK(Watch(bound_.socket));
  next_file_check_ = clock_.Now() + kFileCheckPause;
  thread_ = std::thread([this] { Run(); });
}

void Listener::Stop() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  TENURE_CHECK(write(wake_.get(), &one, sizeof one) == sizeof one);
  // After this line no other thread uses the members below.
  thread_.join();
  silent_.clear();
  bound_.socket.Reset();
}

bool Listener::Watch(const UniqueFd& socket) const {
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.fd = socket.get();
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, socket.get(), &event) == 0;
}

void Listener::Run() {
  std::array<epoll_event, 64> events = {};
  BootTime last_tick = clock_.Now();
  while (true) {
    const int count =
        epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), kTickMs);
    TENURE_CHECK(count >= 0 || errno == EINTR);
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<size_t>(i)].data.fd;
      if (fd == wake_.get()) return;
      if (fd == bound_.socket.get()) {
        AcceptAll();
      } else {
        HandleFirstBytes(fd);
      }
    }
    if (clock_.Now() - last_tick < absl::Milliseconds(kTickMs)) continue;
    last_tick = clock_.Now();
    CloseSilent();
    CheckFile();
    options_.on_tick();
  }
}

void Listener::AcceptAll() {
  for (int i = 0; i < kAcceptedAtOnce; ++i) {
    UniqueFd caller(accept4(bound_.socket.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!caller) {
      if (MayRetryAccept(errno)) continue;
      return;
    }
    const int fd = caller.get();
    absl::StatusOr<ConnectionPermit> permit = PermitCaller(fd);
    if (!permit.ok()) continue;
    epoll_event event = {};
    // EPOLLONESHOT: only the first bytes are of interest here. The rest are gRPC's, also when the
    // socket could not be taken off the epoll instance.
    event.events = EPOLLIN | EPOLLRDHUP | EPOLLONESHOT;
    event.data.fd = fd;
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) continue;
    silent_.emplace(fd, Silent{std::move(caller), *std::move(permit), clock_.Now()});
  }
}

absl::StatusOr<ConnectionPermit> Listener::PermitCaller(int socket) {
  // At once after the accept, and by the uid alone: until the limit of connections is checked, a
  // caller costs the daemon one descriptor. A pidfd for each would double that.
  ucred credentials = {};
  socklen_t length = sizeof credentials;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return absl::ErrnoToStatus(errno, "cannot read which process connected");
  }
  absl::StatusOr<ConnectionPermit> permit = table_.Permit(credentials.uid);
  if (!permit.ok()) options_.on_turned_away(credentials.uid, permit.status());
  return permit;
}

bool Listener::MayRetryAccept(int error) {
  if (error == ECONNABORTED || error == EINTR) return true;
  if (error != EMFILE && error != ENFILE) return false;
  // The process has no descriptor left. The waiting connection stays in the backlog, and epoll
  // would report it again and again: the thread would spin. So the reserve descriptor is closed,
  // the connection takes its place, and is closed as well. The caller sees its connection end.
  reserve_.Reset();
  bool progress = false;
  {
    // Closed before the reserve is opened again, which finds no descriptor otherwise.
    const UniqueFd turned_away(accept4(bound_.socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
    progress = static_cast<bool>(turned_away);
  }
  reserve_ = OpenReserve();
  return progress;
}

void Listener::HandleFirstBytes(int fd) {
  const auto found = silent_.find(fd);
  if (found == silent_.end()) return;
  Silent connection = std::move(found->second);
  silent_.erase(found);
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);

  // First the process that connected, which OfSocket holds by a pidfd. Then the writer of the first
  // bytes, whose pid cannot have passed to another process while that pidfd is open.
  ConnectionTable::Caller peer = Peer::OfSocket(fd);
  if (absl::IsNotFound(peer.status())) return;
  const std::optional<ucred> writer = WriterOf(fd);
  if (!writer) return;
  if (peer.ok() && (writer->pid != (*peer)->pid() || writer->uid != (*peer)->uid() ||
                    writer->gid != (*peer)->gid())) {
    peer = absl::PermissionDeniedError(
        absl::StrCat("process ", writer->pid, " uses a connection that process ", (*peer)->pid(),
                     " made; every process connects for itself"));
  }
  if (peer.ok()) {
    absl::Status allowed = options_.allowed.Check(**peer);
    if (!allowed.ok()) peer = allowed;
  }
  if (!peer.ok()) options_.on_turned_away(writer->uid, peer.status());
  // A refused caller is handed over too. A connection that is closed without an answer tells its
  // user nothing; through gRPC each call gets the reason.
  handler_(Accepted{std::move(connection.socket), std::move(peer), std::move(connection.permit)});
}

void Listener::CheckFile() {
  if (clock_.Now() < next_file_check_) return;
  next_file_check_ = clock_.Now() + kFileCheckPause;
  if (OwnsFile()) return;
  absl::StatusOr<Bound> bound = BindFile(options_.path);
  // A file that nothing listens on any more is removed by the next try.
  if (bound.ok() && !Watch(bound->socket)) bound = absl::ErrnoToStatus(errno, "cannot watch it");
  if (!bound.ok()) {
    const std::string trouble(bound.status().message());
    if (trouble != file_trouble_) {
      spdlog::error("no new client finds this daemon: its socket file {} is gone, and {}",
                    options_.path, trouble);
    }
    file_trouble_ = trouble;
    return;
  }
  // The clients that had connected before the file was gone still wait on the former socket.
  AcceptAll();
  bound_ = *std::move(bound);
  file_trouble_.clear();
  spdlog::warn("the socket file {} was gone; it was made again", options_.path);
}

void Listener::CloseSilent() {
  const BootTime now = clock_.Now();
  absl::erase_if(silent_, [&](const auto& entry) {
    return now - entry.second.since > options_.first_bytes_timeout;
  });
}

}  // namespace tenure::server

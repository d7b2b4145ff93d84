#include "server/transport/connection.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"

namespace tenure::server {
namespace {

// The most that a client may send while it leaves its answers unread. Room for the calls that it
// has in flight, and for their window updates.
constexpr size_t kMostReadWhileStuck = 64 << 10;

}  // namespace

absl::Status Connection::OnRead(absl::Span<const iovec> buffers, size_t length, const ucred* writer,
                                BootTime now) {
  // The writer first: bytes of another process must not count against this client's limits.
  TENURE_RETURN_IF_ERROR(CheckWriter(writer));
  TENURE_RETURN_IF_ERROR(CheckUnread(length));
  for (const iovec& buffer : buffers) {
    // A read may fill the last buffer only in part and leave later ones empty.
    const size_t part = std::min(buffer.iov_len, length);
    const absl::string_view bytes(static_cast<const char*>(buffer.iov_base), part);
    TENURE_RETURN_IF_ERROR(meter_.Read(bytes, now));
    length -= part;
    if (length == 0) break;
  }
  return absl::OkStatus();
}

absl::Status Connection::CheckWriter(const ucred* writer) const {
  // On a refused connection every call gets the same error, whichever process makes it. The
  // connection stays open so that the client can read that error.
  if (!caller_.ok()) return absl::OkStatus();
  const Peer& peer = **caller_;
  if (writer == nullptr) {
    return absl::PermissionDeniedError("the kernel did not name the process that wrote to it");
  }
  if (writer->pid == peer.pid() && writer->uid == peer.uid() && writer->gid == peer.gid()) {
    return absl::OkStatus();
  }
  return absl::PermissionDeniedError(
      absl::StrCat("process ", writer->pid, " (uid ", writer->uid, ", gid ", writer->gid,
                   ") uses a connection that process ", peer.pid(), " (uid ", peer.uid(), ", gid ",
                   peer.gid(), ") made; every process connects for itself"));
}

void Connection::Cut() {
  // Under the lock, because close(2) frees the number for the next connection: a shutdown(2) that
  // came a moment later would end a connection of another client.
  absl::MutexLock lock(&mu_);
  if (!closed_) shutdown(socket_, SHUT_RDWR);
}

void Connection::NoteClosed() {
  absl::MutexLock lock(&mu_);
  closed_ = true;
}

absl::Status Connection::CheckUnread(size_t length) {
  if (!stuck_.load(std::memory_order_relaxed)) {
    read_while_stuck_ = 0;
    return absl::OkStatus();
  }
  read_while_stuck_ += length;
  if (read_while_stuck_ <= kMostReadWhileStuck) return absl::OkStatus();
  return absl::ResourceExhaustedError("it sends more requests and leaves its answers unread");
}

void Connection::OnWritten(bool all, BootTime now) {
  // Almost every write ends here, without the lock.
  if (all && !stuck_.load(std::memory_order_relaxed)) return;
  absl::MutexLock lock(&mu_);
  // The time of the first write that did not fit counts. gRPC tries again whenever the client reads
  // a few bytes, and such a client must not gain new time with each of them.
  if (!all && !stuck_.load(std::memory_order_relaxed)) stuck_since_ = now;
  stuck_.store(!all, std::memory_order_relaxed);
}

bool Connection::IsStuck(BootTime now, absl::Duration patience) const {
  if (!stuck_.load(std::memory_order_relaxed)) return false;
  absl::MutexLock lock(&mu_);
  return !closed_ && now - stuck_since_ >= patience;
}

}  // namespace tenure::server

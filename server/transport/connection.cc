#include "server/transport/connection.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace tenure::server {
namespace {

// What a client may still send while it leaves its answers unread: its calls under way and some.
constexpr size_t kMostReadWhileStuck = 64 << 10;

}  // namespace

absl::Status Connection::OnRead(absl::Span<const iovec> buffers, size_t length, const ucred* writer,
                                BootTime now) {
  if (absl::Status checked = CheckWriter(writer); !checked.ok()) return checked;
  if (absl::Status checked = CheckUnread(length); !checked.ok()) return checked;
  for (const iovec& buffer : buffers) {
    const size_t part = std::min(buffer.iov_len, length);
    const absl::string_view bytes(static_cast<const char*>(buffer.iov_base), part);
    if (absl::Status taken = meter_.Take(bytes, now); !taken.ok()) return taken;
    length -= part;
    if (length == 0) break;
  }
  return absl::OkStatus();
}

absl::Status Connection::CheckWriter(const ucred* writer) const {
  // Who is refused gets words and nothing else, whoever reads them.
  if (!caller_.ok()) return absl::OkStatus();
  const Peer& peer = **caller_;
  if (writer == nullptr) return absl::PermissionDeniedError("nobody says who wrote to it");
  if (writer->pid == peer.pid() && writer->uid == peer.uid() && writer->gid == peer.gid()) {
    return absl::OkStatus();
  }
  return absl::PermissionDeniedError(
      absl::StrCat("process ", writer->pid, " (uid ", writer->uid, ", gid ", writer->gid,
                   ") uses a connection that process ", peer.pid(), " (uid ", peer.uid(), ", gid ",
                   peer.gid(), ") made; every process connects for itself"));
}

void Connection::Cut() {
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
  return absl::ResourceExhaustedError("it asks for more and leaves its answers unread");
}

void Connection::OnWritten(bool all, BootTime now) {
  if (all && !stuck_.load(std::memory_order_relaxed)) return;
  absl::MutexLock lock(&mu_);
  if (!all && !stuck_.load(std::memory_order_relaxed)) stuck_since_ = now;
  stuck_.store(!all, std::memory_order_relaxed);
}

bool Connection::IsStuck(BootTime now, absl::Duration patience) const {
  if (!stuck_.load(std::memory_order_relaxed)) return false;
  absl::MutexLock lock(&mu_);
  return !closed_ && now - stuck_since_ >= patience;
}

}  // namespace tenure::server

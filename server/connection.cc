#include "server/connection.h"

#include <poll.h>

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace tenure::server {
namespace {

// Answers come well within this many looks.
constexpr int kLooksAfterRead = 8;

}  // namespace

absl::Status Connection::OnRead(absl::Span<const iovec> buffers, size_t length, const ucred* writer,
                                BootTime now) {
  if (absl::Status checked = CheckWriter(writer); !checked.ok()) return checked;
  looks_left_.store(kLooksAfterRead, std::memory_order_relaxed);
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

bool Connection::IsStuck(BootTime now, absl::Duration patience) {
  absl::MutexLock lock(&mu_);
  if (closed_ || (!full_ && looks_left_.load(std::memory_order_relaxed) <= 0)) return false;
  looks_left_.fetch_sub(1, std::memory_order_relaxed);
  pollfd entry = {socket_, POLLOUT, 0};
  const bool full = poll(&entry, 1, 0) == 0;
  if (full && !full_) full_since_ = now;
  full_ = full;
  return full_ && now - full_since_ >= patience;
}

}  // namespace tenure::server

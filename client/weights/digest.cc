#include "client/weights/digest.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/escaping.h"
#include "absl/synchronization/mutex.h"
#include <openssl/evp.h>

#include "common/limits.h"
#include "common/status_macros.h"

namespace tenure {
namespace {

using Sha256 = std::array<char, kDigestBytes>;

// Each thread needs a buffer of kDigestPiece, so this bounds the host memory: 256 MiB.
constexpr size_t kMostThreads = 16;

absl::Status Hash(const void* bytes, size_t size, Sha256* digest) {
  unsigned int length = 0;
  if (EVP_Digest(bytes, size, reinterpret_cast<unsigned char*>(digest->data()), &length,
                 EVP_sha256(), nullptr) == 1 &&
      length == kDigestBytes) {
    return absl::OkStatus();
  }
  return absl::InternalError("the cryptographic library computes no SHA-256");
}

std::vector<DigestPiece> Divide(absl::Span<const Bytes> blocks) {
  std::vector<DigestPiece> pieces;
  for (uint32_t block = 0; block < blocks.size(); ++block) {
    for (Bytes offset; offset < blocks[block]; offset += pieces.back().size) {
      pieces.push_back({block, offset, std::min(blocks[block] - offset, kDigestPiece)});
    }
  }
  return pieces;
}

// The pieces that the threads share, and the digest of each.
//
// Thread safety: thread-safe. Result() is called after the threads have ended.
class PieceQueue {
 public:
  PieceQueue(std::vector<DigestPiece> pieces,
             absl::FunctionRef<absl::Status(const DigestPiece&, char*)> read)
      : pieces_(std::move(pieces)), digests_(pieces_.size()), read_(read) {}

  // Digests pieces until there are none left, or a thread has failed.
  void Run() ABSL_LOCKS_EXCLUDED(mutex_) {
    const auto buffer = std::make_unique_for_overwrite<char[]>(kDigestPiece.value());
    while (!failed_) {
      // A counter and not a fixed share for each thread: reading a piece may take longer for one
      // thread than for another, and then the others do more of them.
      const size_t index = next_++;
      if (index >= pieces_.size()) return;
      absl::Status status = read_(pieces_[index], buffer.get());
      if (status.ok()) {
        status = Hash(buffer.get(), pieces_[index].size.value(), &digests_[index]);
      }
      if (status.ok()) continue;
      failed_ = true;
      absl::MutexLock lock(&mutex_);
      failure_.Update(status);
    }
  }

  absl::StatusOr<std::string> Result() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (!failure_.ok()) return failure_;
    // The pieces' digests lie one after another in order of the pieces, whichever thread wrote
    // them.
    Sha256 root;
    TENURE_RETURN_IF_ERROR(Hash(digests_.data(), digests_.size() * kDigestBytes, &root));
    return std::string(root.data(), root.size());
  }

 private:
  const std::vector<DigestPiece> pieces_;
  // Each is written by one thread, the one that has its index from next_, so no lock guards them.
  std::vector<Sha256> digests_;
  const absl::FunctionRef<absl::Status(const DigestPiece&, char*)> read_;
  std::atomic<size_t> next_ = 0;
  std::atomic<bool> failed_ = false;
  absl::Mutex mutex_;  // guards the first error
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::string> DigestOf(
    absl::Span<const Bytes> blocks,
    absl::FunctionRef<absl::Status(const DigestPiece& piece, char* to)> read) {
  std::vector<DigestPiece> pieces = Divide(blocks);
  const size_t threads = std::min(
      {size_t{std::max(std::thread::hardware_concurrency(), 1u)}, pieces.size(), kMostThreads});
  PieceQueue queue(std::move(pieces), read);
  std::vector<std::thread> others;
  // The calling thread digests as well. So one piece starts no thread.
  for (size_t i = 1; i < threads; ++i) others.emplace_back([&queue] { queue.Run(); });
  queue.Run();
  for (std::thread& other : others) other.join();
  return queue.Result();
}

std::string DigestInHex(const std::string& digest) { return absl::BytesToHexString(digest); }

}  // namespace tenure

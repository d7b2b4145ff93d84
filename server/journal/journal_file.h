// The journal's file as bytes: opening, reading, replacing.
#ifndef SERVER_JOURNAL_JOURNAL_FILE_H_
#define SERVER_JOURNAL_JOURNAL_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/unique_fd.h"

namespace tenure::server {

// The largest file that is read or written: room for some ten million records.
inline constexpr uint64_t kMaxJournalBytes = uint64_t{1} << 30;

// Opens an existing journal for reading and appending. NOT_FOUND when there is none.
// PERMISSION_DENIED when another user may have written it: the path names a link or no regular
// file, or the file belongs to another user or is writable for others.
absl::StatusOr<UniqueFd> OpenJournalFile(const std::string& path);

absl::StatusOr<uint64_t> FileSize(int fd);

// The bytes [from, to) of the file; DATA_LOSS when it is shorter.
absl::StatusOr<std::string> ReadRange(int fd, uint64_t from, uint64_t to);

// Creates a file with these bytes and moves it to the path, in place of an older one. No process
// ever sees a part of it there, however this process ends. Returns it open for appending.
absl::StatusOr<UniqueFd> ReplaceFile(const std::string& path, absl::string_view bytes);

// Removes the file that a killed ReplaceFile has left.
void RemoveUnfinished(const std::string& path);

}  // namespace tenure::server

#endif  // SERVER_JOURNAL_JOURNAL_FILE_H_

// The journal's file, as bytes.
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

// Opens a journal that is there, for reading and for appending. NOT_FOUND when there is none;
// PERMISSION_DENIED when what is there is no regular file, reached by a link, another user's, or
// one that other users may write: then its words are not ours.
absl::StatusOr<UniqueFd> OpenJournalFile(const std::string& path);

absl::StatusOr<uint64_t> FileSize(int fd);

// The bytes [from, to) of the file; DATA_LOSS when it is shorter.
absl::StatusOr<std::string> ReadRange(int fd, uint64_t from, uint64_t to);

// Puts a file with these bytes under the name, in place of what is there: nobody ever sees a part
// of it, however this process ends. Open for appending.
absl::StatusOr<UniqueFd> ReplaceFile(const std::string& path, absl::string_view bytes);

// Removes what a ReplaceFile that was killed has left behind.
void RemoveUnfinished(const std::string& path);

}  // namespace tenure::server

#endif  // SERVER_JOURNAL_JOURNAL_FILE_H_

// The claim that keeps a second daemon off a device.
#ifndef SERVER_INSTANCE_LOCK_H_
#define SERVER_INSTANCE_LOCK_H_

#include <string>

#include "absl/status/statusor.h"

#include "common/clock.h"
#include "common/unique_fd.h"
#include "server/keeper/fd_store.h"

namespace tenure::server {

// Claims a device for this process.
//
// The claim is a lock on a file in the runtime folder, where no other user may write: nobody else
// can take it while the daemon is away. A daemon with another folder does not see that lock. So
// there is also a name in the kernel's table of abstract unix sockets, on which the daemon listens.
// Any process may have taken that name first. Another daemon is believed only if it listens and
// runs as root or as this user; any other holder is named in the log. A daemon in another network
// namespace is not seen.
//
// Both claims end with the process, whichever way that ends. A supervisor that keeps the daemon's
// memory keeps a copy of the lock beside it, and the next life takes that over. So whoever has the
// lock knows: memory that was not passed on to this start is kept by nobody else.
// Thread safety: thread-confined.
// Source: flock(2), unix(7).
class DeviceClaim {
 public:
  // Takes over the lock that the supervisor has kept, or locks the file anew.
  // REQUIRES: `folder` is a runtime folder; the clock outlives the claim.
  // Errors: ALREADY_EXISTS: another daemon has claimed the device, or the supervisor of another
  // has, which the message names. Others: the lock's file cannot be made.
  static absl::StatusOr<DeviceClaim> Take(const std::string& folder, const std::string& device_uuid,
                                          FdStore& store, const Clock& clock);

  // Gives the supervisor a copy of the lock, unless it has one. To be called when the start can no
  // longer refuse what the supervisor keeps: it gives up the lock of another device.
  // REQUIRES: the store is available. Errors: as FdStore.
  absl::Status Keep(FdStore& store) const;

  // Answers those that ask whether the holder lives, or tries each second to have the name, if
  // another process had it.
  void Maintain();
  // Removes the lock's file, while this process still has the lock.
  ~DeviceClaim() { RemoveFile(); }
  DeviceClaim(DeviceClaim&&) = default;
  void RemoveFile();

 private:
  DeviceClaim(std::string path, std::string name, UniqueFd lock, const Clock& clock);

  // Errors: ALREADY_EXISTS: another daemon has it.
  absl::Status TakeName();

  std::string path_;  // of the lock's file
  std::string name_;
  UniqueFd lock_;
  bool kept_ = false;  // the supervisor has a copy of lock_
  UniqueFd listener_;  // -1 while another process has the name
  const Clock* clock_;
  BootTime next_try_;
  std::string trouble_;  // why the name could not be had; logged when it changes
};

}  // namespace tenure::server

#endif  // SERVER_INSTANCE_LOCK_H_

// Where the reserved bytes of the device are.
#ifndef SERVER_MEMORY_BOOKS_H_
#define SERVER_MEMORY_BOOKS_H_

#include "common/bytes.h"

namespace tenure::server {

// The bytes that the daemon has from the driver, by their use.
//
// Invariants: reserved() is their sum, always.
// Thread safety: thread-compatible.
struct Books {
  Bytes leased;       // with a holder: a session or a segment
  Bytes warm;         // with no holder: clean, waiting for work, or being worked on
  Bytes quarantined;  // of dead sessions, until they are proven gone; and retired regions
  Bytes reserved() const { return leased + warm + quarantined; }
};

}  // namespace tenure::server

#endif  // SERVER_MEMORY_BOOKS_H_

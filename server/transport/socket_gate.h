// The place where every byte that gRPC reads passes by the daemon first.
#ifndef SERVER_TRANSPORT_SOCKET_GATE_H_
#define SERVER_TRANSPORT_SOCKET_GATE_H_

#include <memory>

#include "server/transport/connection_table.h"

namespace tenure::server {

// gRPC reads its sockets with recvmsg(2), writes them with sendmsg(2) and closes them with
// close(2), which it takes from the C library. A program that links this room has these three
// functions from here instead: they do the same, and for a socket in the table they see who wrote
// what was read (SCM_CREDENTIALS), count its frames, and cut the connection before gRPC sees what
// it must not; they see when answers are left unread; and they know when the socket's number stops
// to mean that connection.
//
// A proxy in front of gRPC could do the same, for two more switches between threads on the way of
// every call, half of what a call costs.
//
// From now on connections are looked up in `table`, which stays for as long as the process lives:
// gRPC's threads close sockets after its server is gone.
void InstallSocketGate(std::shared_ptr<ConnectionTable> table);

}  // namespace tenure::server

#endif  // SERVER_TRANSPORT_SOCKET_GATE_H_

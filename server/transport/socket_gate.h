// Checks every byte that gRPC reads from a client's socket, by defining the functions that read it.
#ifndef SERVER_TRANSPORT_SOCKET_GATE_H_
#define SERVER_TRANSPORT_SOCKET_GATE_H_

#include <memory>

#include "server/transport/connection_table.h"

namespace tenure::server {

// gRPC reads its sockets with recvmsg(2), writes them with sendmsg(2) and closes them with
// close(2), and calls the C library for each. A program that links this room gets these three
// functions from here instead, because the linker takes a program's own definition before that of a
// shared library. For a descriptor that is no connection they only make the system call. For a
// connection in the table they also
//   * check the process that wrote the bytes (SCM_CREDENTIALS) and count the frames, and cut the
//     connection before gRPC sees bytes that are refused;
//   * record that answers are left unread;
//   * remove the connection from the table before its number can mean another one.
//
// The alternative is a proxy in front of gRPC. It would add two thread switches to each call, which
// are half of the cost of a call.
//
// InstallSocketGate makes these functions look connections up in `table`. The table then lives as
// long as the process, because gRPC's threads close sockets after its server is destroyed.
void InstallSocketGate(std::shared_ptr<ConnectionTable> table);

}  // namespace tenure::server

#endif  // SERVER_TRANSPORT_SOCKET_GATE_H_

// What the daemon and its keeper do on each signal that would end them.
#ifndef SERVER_KEEPER_SIGNALS_H_
#define SERVER_KEEPER_SIGNALS_H_

#include <csignal>
#include <string>

namespace tenure::server {

// The signals whose default action ends a process, without SIGKILL, without those that report a
// fault of the process itself (SIGSEGV, SIGABRT, ...), and without SIGPIPE, which both ignore. Both
// block them and read them, so that none ends a process without a line in its log.
// Source: signal(7).
sigset_t HandledSignals();

enum class SignalMeaning {
  kEnd,     // SIGTERM, SIGINT, SIGQUIT
  kReload,  // SIGHUP: read the configuration again
  kNothing,
};
SignalMeaning MeaningOf(int signal);

// As in "SIGHUP".
std::string SignalName(int signal);

}  // namespace tenure::server

#endif  // SERVER_KEEPER_SIGNALS_H_

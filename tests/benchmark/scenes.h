// The scenes of the disturbance benchmark, each a measurement of its own.
#ifndef TESTS_BENCHMARK_SCENES_H_
#define TESTS_BENCHMARK_SCENES_H_

#include "tests/benchmark/report.h"

namespace tenure::testing {

struct Settings {
  int kills = 200;
  int seconds = 4;  // of each attack, and of the time without one that it is compared with
};

// The latencies of an honest client during each attack, and how soon the attackers are cut.
void MeasureAttacks(const Settings& settings, Report& report);
// The latencies of an honest client while other clients die.
void MeasureDeaths(const Settings& settings, Report& report);
// From the exit of a process until its regions are in quarantine.
void MeasureQuarantine(const Settings& settings, Report& report);
// The cost of an idle session.
void MeasureIdleSessions(const Settings& settings, Report& report);

}  // namespace tenure::testing

#endif  // TESTS_BENCHMARK_SCENES_H_

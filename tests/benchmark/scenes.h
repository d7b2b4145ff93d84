// What is measured, scene by scene.
#ifndef TESTS_BENCHMARK_SCENES_H_
#define TESTS_BENCHMARK_SCENES_H_

#include "tests/benchmark/report.h"

namespace tenure::testing {

struct Settings {
  int kills = 200;
  int seconds = 4;  // of each attack, and of what it is compared with
};

// What an honest client notices of each attack, and when the offenders are cut.
void MeasureAttacks(const Settings& settings, Report& report);
// What an honest client notices of other clients' deaths.
void MeasureDeaths(const Settings& settings, Report& report);
// From the exit of a process until its regions are in quarantine.
void MeasureQuarantine(const Settings& settings, Report& report);
// What a session costs that does nothing.
void MeasureIdleSessions(const Settings& settings, Report& report);

}  // namespace tenure::testing

#endif  // TESTS_BENCHMARK_SCENES_H_

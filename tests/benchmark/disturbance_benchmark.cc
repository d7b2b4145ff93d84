// How attacks on a real daemon and deaths of other clients affect an honest client, and the cost of
// idle sessions. Prints promised and measured values; ends with 1 when a promise was not kept.
//
//   disturbance_benchmark [--only attacks|deaths|quarantine|idle] [--kills N] [--seconds S]
//
// Attackers and crowds are processes of this same program:
//   disturbance_benchmark attack NAME SOCKET SECONDS
//   disturbance_benchmark crowd SOCKET COUNT

#include <functional>
#include <map>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "tests/benchmark/attack.h"
#include "tests/benchmark/crowd.h"
#include "tests/benchmark/scenes.h"

namespace tenure::testing {
namespace {

int Measure(int argc, char** argv) {
  CLI::App app("What disturbs an honest client of tenured, and what an idle session costs.");
  Settings settings;
  std::string only;
  using Scene = std::function<void(const Settings&, Report&)>;
  const std::vector<std::pair<std::string, Scene>> scenes = {
      {"attacks", MeasureAttacks},
      {"deaths", MeasureDeaths},
      {"quarantine", MeasureQuarantine},
      {"idle", MeasureIdleSessions},
  };
  std::vector<std::string> names;
  for (const auto& [name, scene] : scenes) names.push_back(name);
  app.add_option("--only", only, "one scene")->check(CLI::IsMember(names));
  app.add_option("--kills", settings.kills,
                 "clients killed to time the quarantine; half as many "
                 "to see what deaths do to others")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  app.add_option("--seconds", settings.seconds, "of each attack")
      ->check(CLI::Range(1, 15))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  Report report;
  for (const auto& [name, scene] : scenes) {
    if (only.empty() || only == name) scene(settings, report);
  }
  report.Print();
  return report.missed() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace tenure::testing

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (!words.empty() && words[0] == "attack") {
    return tenure::testing::Attack({words.begin() + 1, words.end()});
  }
  if (!words.empty() && words[0] == "crowd") {
    return tenure::testing::KeepCrowd({words.begin() + 1, words.end()});
  }
  return tenure::testing::Measure(argc, argv);
}

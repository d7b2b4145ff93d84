// The rules of ownership over many seeds. Each seed is one life of the daemon's core, with hostile
// clients and a failing driver.
//
//   TENURE_SEEDS=1000000 simulation_test          more of them; 20 000 by default
//   TENURE_FIRST_SEED=4711 TENURE_SEEDS=1 simulation_test    one of them once more

#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>

#include <gtest/gtest.h>

#include "tests/simulation/world.h"
#include "tests/support/emulated_card.h"

namespace tenure::testing {
namespace {

constexpr int kSteps = 120;

uint64_t Number(const char* variable, uint64_t otherwise) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

volatile uint64_t seed_under_way = 0;

// A broken invariant aborts. The seed is printed, because it repeats the run.
void NameSeed(int) {
  std::array<char, 64> words = {};
  const int length = std::snprintf(words.data(), words.size(), "in seed %llu\n",
                                   static_cast<unsigned long long>(seed_under_way));
  static_cast<void>(!write(STDERR_FILENO, words.data(), static_cast<size_t>(length)));
}

TEST(SimulationTest, TheRulesHoldWhateverHappens) {
  const EmulatedCard card("512MiB");
  signal(SIGABRT, NameSeed);
  SimulatedDevice device;
  const uint64_t first = Number("TENURE_FIRST_SEED", 1);
  const uint64_t count = Number("TENURE_SEEDS", 20'000);
  uint64_t lost = 0;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    seed_under_way = seed;
    bool poisoned = false;
    {
      World world(device, seed);
      const std::string broken = world.Run(kSteps);
      ASSERT_EQ(broken, "") << "in seed " << seed;
      poisoned = world.poisoned();
    }
    if (poisoned) {
      ++lost;
      device.OpenAnew();
    }
  }
  std::printf("%llu seeds, in %llu of which the driver failed until the end\n",
              static_cast<unsigned long long>(count), static_cast<unsigned long long>(lost));
}

}  // namespace
}  // namespace tenure::testing

// Every request message, in any order, also from processes without permission: the daemon answers
// each, its books balance, and it holds nothing after the last process has ended.
//
// An input is two choices for the daemon, then a sequence of steps: the length of a step and its
// choices, of which the first selects the action and the second the process.

#include <cstdint>

#include "tests/fuzz/choices.h"
#include "tests/fuzz/request_world.h"
#include "tests/support/emulated_card.h"
#include "tests/support/simulated_device.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const tenure::testing::EmulatedCard card("64MiB");
  static tenure::testing::SimulatedDevice device;
  tenure::testing::Choices choices({data, size});
  tenure::testing::RequestWorld world(device, choices);
  while (!choices.empty()) world.Step(choices.NextPart());
  world.End();
  return 0;
}

// Several plug-ins of one process that use the client library.
#include <string>

#include "tests/integration/program_fixture.h"

namespace tenure::testing {
namespace {

class PluginsTest : public ProgramTest {
 protected:
  // Loads these plug-ins into one process, in this order, and uses each.
  Outcome Use(const std::string& plugins) {
    const std::string folder = ProgramFolder() + "/";
    std::string paths;
    for (const char name : plugins)
      paths += " " + folder +
               (name == 's' ? "plugin_with_archive.so" : std::string("plugin_") + name + ".so");
    return Run("plugin_host", paths, "2>&1");
  }
};

TEST_F(PluginsTest, TwoThatShareTheLibraryWorkInOneProcess) {
  const Outcome outcome = Use("ab");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
}

TEST_F(PluginsTest, OneWithACopyOfItsOwnWorksBesideThemInAnyOrder) {
  for (const char* order : {"sa", "as", "asb", "bas"}) {
    const Outcome outcome = Use(order);
    EXPECT_EQ(outcome.exit_code, 0) << order << ": " << outcome.output;
  }
}

}  // namespace
}  // namespace tenure::testing

#include "server/identity/request_window.h"

#include <gtest/gtest.h>

namespace tenure::server {
namespace {

TEST(RequestWindowTest, TheLastRequestsAreRememberedAndTheOldestForgotten) {
  RequestWindow window;
  for (uint64_t id = 1; id <= RequestWindow::kRemembered + 10; ++id) {
    window.Note(id, {RequestWindow::State::kGranted, id});
  }
  EXPECT_EQ(window.Find(10), nullptr);
  ASSERT_NE(window.Find(11), nullptr);
  EXPECT_EQ(window.Find(11)->id, 11u);
  window.Forget(11);
  EXPECT_EQ(window.Find(11), nullptr);
}

}  // namespace
}  // namespace tenure::server

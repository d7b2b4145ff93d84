// The name of a session whose program has any name.
#include <gtest/gtest.h>

#include "client/session/session.h"
#include "common/limits.h"

namespace tenure {
namespace {

TEST(SessionNameTest, AnUsualProgramGivesItsOwnName) {
  EXPECT_EQ(DefaultSessionName("inference_worker"), "inference_worker");
  EXPECT_EQ(DefaultSessionName("推理服务"), "推理服务");
  EXPECT_EQ(DefaultSessionName(std::string(kMaxSessionName, 'x')),
            std::string(kMaxSessionName, 'x'));
}

TEST(SessionNameTest, WhatTheDaemonWouldRefuseIsCleaned) {
  EXPECT_EQ(DefaultSessionName(std::string(100, 'x')), std::string(kMaxSessionName, 'x'));
  EXPECT_EQ(DefaultSessionName("a\nb\tc\x1b[31m"), "a?b?c?[31m");
  EXPECT_EQ(DefaultSessionName("worker-\xff\xfe"), "worker-??");
  // 22 characters of three bytes: one too many, and none is cut.
  std::string longer;
  for (int i = 0; i < 22; ++i) longer += "推";
  EXPECT_EQ(DefaultSessionName(longer), longer.substr(0, 63));
}

}  // namespace
}  // namespace tenure

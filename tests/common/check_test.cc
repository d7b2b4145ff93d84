#include "common/check.h"

#include "gtest/gtest.h"

namespace tenure {
namespace {

TEST(CheckDeathTest, ABrokenClaimAbortsAndNamesItselfAndItsPlace) {
  const int two = 2;
  EXPECT_DEATH(TENURE_CHECK(two == 3), "check_test.cc:[0-9]+: check failed: two == 3");
}

TEST(Check, AClaimThatHoldsIsEvaluatedOnce) {
  int evaluated = 0;
  TENURE_CHECK(++evaluated == 1);
  EXPECT_EQ(evaluated, 1);
}

TEST(Check, CanBeUsedInsideAConstantExpression) {
  constexpr auto half = [](int n) {
    TENURE_CHECK(n % 2 == 0);
    return n / 2;
  };
  static_assert(half(4) == 2);
  EXPECT_DEATH(half(static_cast<int>(testing::UnitTest::GetInstance()->random_seed()) * 2 + 1),
               "n % 2");
}

TEST(Check, DebugClaimsAreEvaluatedInDebugBuildsOnly) {
  int evaluated = 0;
  TENURE_DCHECK(++evaluated > 0);
#ifdef NDEBUG
  EXPECT_EQ(evaluated, 0);
#else
  EXPECT_EQ(evaluated, 1);
#endif
}

}  // namespace
}  // namespace tenure

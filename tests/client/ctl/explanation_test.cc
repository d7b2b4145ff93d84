// The output of `tenurectl explain` for states that last too short to be seen at a real daemon.
#include "client/ctl/explanation.h"

#include <string>

#include <gtest/gtest.h>

#include "tenure/v1/stats.pb.h"

namespace tenure::ctl {
namespace {

bool Contains(const std::string& text, const std::string& words) {
  return text.find(words) != std::string::npos;
}

TEST(Explanation, AKeepAliveThatIsLateIsOverdueWhateverTheStateStillSays) {
  v1::Session session;
  session.set_state("ACTIVE");
  session.set_lease_left_ms(-1500);
  EXPECT_TRUE(Contains(Explain(session), "Its keep-alive is 1 s overdue")) << Explain(session);
  session.set_state("SUSPENDED");
  session.set_cause("overdue");
  session.set_lease_left_ms(3);
  EXPECT_TRUE(Contains(Explain(session), "Its keep-alive is 0 ms overdue")) << Explain(session);
}

TEST(Explanation, NoHintToLookForAChildOnceThereIsProof) {
  v1::Quarantine quarantine;
  quarantine.set_reason("its regions wait to be cleared");
  quarantine.set_state("FENCED");
  EXPECT_FALSE(Contains(Explain(quarantine), "fuser"));
  EXPECT_TRUE(
      Contains(Explain(quarantine), "It is not granted again yet: its regions wait to be cleared"));
  quarantine.set_state("QUARANTINED");
  EXPECT_TRUE(Contains(Explain(quarantine), "fuser"));
}

TEST(Explanation, NamesCannotSteerTheTerminal) {
  v1::Session session;
  session.set_name("a\x1b[2J");
  session.set_tenant("b\x1b[2J");
  EXPECT_FALSE(Contains(Explain(session), "\x1b"));
}

}  // namespace
}  // namespace tenure::ctl

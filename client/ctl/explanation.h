// Sentences that explain one session, allocation, quarantine or segment, with the next command.
#ifndef CLIENT_CTL_EXPLANATION_H_
#define CLIENT_CTL_EXPLANATION_H_

#include <string>
#include <vector>

#include "tenure/v1/stats.pb.h"

namespace tenure::ctl {

// Each text ends with a newline.
std::string Explain(const v1::Session& session);
std::string Explain(const v1::Quarantine& quarantine);
std::string Explain(const v1::Allocation& allocation);
// `sessions`: all that the daemon lists. The text names those that use the segment.
std::string Explain(const v1::Segment& segment, const std::vector<v1::Session>& sessions);

// The segments that a session has attached or loads; empty when there is none.
std::string ExplainUse(uint64_t session_id, const std::vector<v1::Segment>& segments);

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_EXPLANATION_H_

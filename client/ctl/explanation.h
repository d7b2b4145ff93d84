// What the daemon knows about one thing, in sentences, with the next command to type.
#ifndef CLIENT_CTL_EXPLANATION_H_
#define CLIENT_CTL_EXPLANATION_H_

#include <string>
#include <vector>

#include "tenure/v1/stats.pb.h"

namespace tenure::ctl {

// Each ends with a newline.
std::string Explain(const v1::Session& session);
std::string Explain(const v1::Quarantine& quarantine);
std::string Explain(const v1::Allocation& allocation);
// `sessions` are all that the daemon lists: those that use the segment are named.
std::string Explain(const v1::Segment& segment, const std::vector<v1::Session>& sessions);

// What a session has of segments; empty when it has nothing.
std::string ExplainUse(uint64_t session_id, const std::vector<v1::Segment>& segments);

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_EXPLANATION_H_

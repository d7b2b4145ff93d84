// What the daemon knows about one thing, in sentences, with the next command to type.
#ifndef CLIENT_CTL_EXPLANATION_H_
#define CLIENT_CTL_EXPLANATION_H_

#include <string>

#include "tenure/v1/stats.pb.h"

namespace tenure::ctl {

// Each ends with a newline.
std::string Explain(const v1::Session& session);
std::string Explain(const v1::Quarantine& quarantine);
std::string Explain(const v1::Allocation& allocation);

}  // namespace tenure::ctl

#endif  // CLIENT_CTL_EXPLANATION_H_

#include "client/ctl/explanation.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"

#include "client/ctl/text.h"
#include "common/bytes.h"

namespace tenure::ctl {
namespace {

// "session 17: process 4711 (name, tenant)".
template <typename Message>
std::string SessionAndProcess(const Message& one) {
  return absl::StrCat("session ", one.session_id(), ": process ", one.pid(), " (",
                      Printable(one.name()), ", ", Printable(one.tenant()), ")");
}

std::string NameOf(const v1::Segment& segment) {
  return absl::StrCat("segment '", Printable(segment.name()), "' of uid:", segment.owner_uid());
}

std::string LeaseSentence(const v1::Session& session) {
  // The daemon reads the clock and the state one after the other. So an overdue lease may still be
  // ACTIVE, and a SUSPENDED one may have time left: both count as overdue here.
  const int64_t left = session.lease_left_ms();
  if (session.cause().empty() && left >= 0) {
    return absl::StrCat("Its keep-alives come in time; the next is due within ",
                        Age(static_cast<uint64_t>(left)), ".");
  }
  // The first half of the sentence depends on the cause, this half does not.
  const std::string since =
      absl::StrCat(" Its keep-alive is ", Age(static_cast<uint64_t>(std::max<int64_t>(0, -left))),
                   " overdue: it is granted nothing new and keeps what it holds.");
  if (session.cause() == "stopped") {
    return absl::StrCat("The process is stopped, by SIGSTOP or a debugger.", since, " `kill -CONT ",
                        session.pid(), "` continues it.");
  }
  if (session.cause() == "hung") {
    return absl::StrCat("The process runs but sends no keep-alive.", since, " `tenurectl revoke ",
                        session.session_id(), "` kills it.");
  }
  return absl::StrCat("The process has not sent its keep-alive in time.", since);
}

}  // namespace

std::string Explain(const v1::Session& session) {
  return absl::StrCat(
      SessionAndProcess(session), " holds ", Count(session.allocations(), "allocation"), ", ",
      FormatBytes(Bytes(session.allocated_bytes())), " in ", Count(session.regions(), "region"),
      " of ", FormatBytes(Bytes(session.leased_bytes())), ".\n", LeaseSentence(session), "\n");
}

std::string Explain(const v1::Quarantine& quarantine) {
  const std::string what =
      absl::StrCat(SessionAndProcess(quarantine), " died ", Age(quarantine.age_ms()),
                   " ago and left ", FormatBytes(Bytes(quarantine.quarantined_bytes())), " in ",
                   Count(quarantine.regions(), "region"),
                   ".\nIt is not granted again yet: ", Printable(quarantine.reason()),
                   ".\nUntil then it counts as memory of its tenant.");
  // After the proof no process has device files open, so the advice to search for one is left out.
  if (quarantine.state() == "FENCED") {
    return absl::StrCat(
        what,
        " It is proven that the process can no longer write there. There is nothing to do.\n");
  }
  return absl::StrCat(what,
                      " `fuser -v /dev/nvidia*` names the processes that keep the device's files "
                      "open; when the last of them ends, the memory comes back.\n");
}

std::string Explain(const v1::Allocation& one) {
  return absl::StrCat(
      "allocation ", one.allocation_id(), ": ", FormatBytes(Bytes(one.size_bytes())), " for ",
      FormatBytes(Bytes(one.requested_bytes())), " asked for, ",
      one.placement() == "direct" ? "a region of its own" : "from a pool", ", at offset ",
      FormatBytes(Bytes(one.offset_bytes())), " of region ", one.region_id(), ", held by process ",
      one.pid(), " in session ", one.session_id(), " for ", Age(one.age_ms()), ".\n");
}

std::string Explain(const v1::Segment& segment, const std::vector<v1::Session>& sessions) {
  std::string text = absl::StrCat(NameOf(segment), " ");
  if (segment.state() == "LOADING") {
    absl::StrAppend(&text, "is being loaded and not yet published; clients that attach it wait.\n");
  } else {
    absl::StrAppend(&text, "holds ", FormatBytes(Bytes(segment.size_bytes())), " of kind ",
                    segment.memory_kind(), " in ", Count(segment.blocks(), "block"), " with ",
                    Count(segment.tensors(), "tensor"), ", published ", Age(segment.age_ms()),
                    " ago. It stays until it is unpublished, also after its publisher ends",
                    segment.survives_daemon() ? " and after the daemon's process ends" : "", ".\n");
  }
  if (segment.state() != "LOADING" && segment.attached_session_ids().empty()) {
    absl::StrAppend(&text, "No session is attached: `tenurectl unpublish ",
                    Printable(segment.name()), "` frees its memory.\n");
  }
  // A session with two attachments is in the list twice. It is named once, with the count.
  for (const v1::Session& session : sessions) {
    const auto times = std::count(segment.attached_session_ids().begin(),
                                  segment.attached_session_ids().end(), session.session_id());
    if (session.session_id() == segment.loading_session_id()) {
      absl::StrAppend(&text, "Loaded by ", SessionAndProcess(session), ".\n");
    } else if (times > 0) {
      absl::StrAppend(&text, "Attached ", Count(static_cast<uint64_t>(times), "time"), " by ",
                      SessionAndProcess(session), ".\n");
    }
  }
  return text;
}

std::string ExplainUse(uint64_t session_id, const std::vector<v1::Segment>& segments) {
  std::string text;
  for (const v1::Segment& segment : segments) {
    const auto times = std::count(segment.attached_session_ids().begin(),
                                  segment.attached_session_ids().end(), session_id);
    if (times > 0) {
      absl::StrAppend(&text, "It is attached ", Count(static_cast<uint64_t>(times), "time"), " to ",
                      NameOf(segment), ", ", FormatBytes(Bytes(segment.size_bytes())), ".\n");
    } else if (segment.loading_session_id() == session_id) {
      absl::StrAppend(&text, "It loads ", NameOf(segment), ".\n");
    }
  }
  return text;
}

}  // namespace tenure::ctl

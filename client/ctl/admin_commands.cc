#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"

#include "client/ctl/commands.h"
#include "client/ctl/proto_json.h"
#include "client/ctl/text.h"
#include "client/session/channel.h"
#include "client/session/grpc_status.h"
#include "common/bytes.h"
#include "tenure/v1/admin.grpc.pb.h"

namespace tenure::ctl {
namespace {

// A trim waits for the driver, which takes up to 33 ms for a region.
constexpr absl::Duration kTimeout = absl::Seconds(60);
// The answers of the Admin service are a few numbers.
constexpr Bytes kMaxMessage = KiB(64);

// Calls one method and prints the response as JSON, or the sentence that `describe` makes of it.
template <typename Request, typename Response, typename Describe>
ExitCode Call(const CommonOptions& options,
              grpc::Status (v1::Admin::Stub::*method)(grpc::ClientContext*, const Request&,
                                                      Response*),
              const Request& request, Describe describe) {
  // Errors up to here mean that there is no daemon (exit codes 3, 4 and 6); later ones are its
  // answer.
  const absl::StatusOr<std::shared_ptr<grpc::Channel>> channel =
      OpenChannel(options.socket, kMaxMessage);
  if (!channel.ok()) return Fail(channel.status(), Stage::kConnecting);
  const std::unique_ptr<v1::Admin::Stub> stub = v1::Admin::NewStub(*channel);
  grpc::ClientContext context;
  SetTimeout(context, kTimeout);
  Response response;
  const grpc::Status status = (stub.get()->*method)(&context, request, &response);
  if (!status.ok()) return Fail(FromGrpc(status), Stage::kCalling);
  std::cout << (options.json ? TextOf(ToJson(response)) : describe(response)) << "\n";
  return kOk;
}

}  // namespace

ExitCode RunTrim(const CommonOptions& options) {
  return Call(options, &v1::Admin::Stub::Trim, v1::TrimRequest(), [](const v1::TrimResponse& done) {
    return absl::StrCat(FormatBytes(Bytes(done.freed_bytes())), " returned to the driver");
  });
}

ExitCode RunRevoke(const CommonOptions& options, uint64_t session_id) {
  v1::RevokeRequest request;
  request.set_session_id(session_id);
  return Call(options, &v1::Admin::Stub::Revoke, request, [](const v1::RevokeResponse& done) {
    return absl::StrCat("process ", done.pid(),
                        " is killed; its memory comes back once the driver no longer lists it");
  });
}

ExitCode RunDrain(const CommonOptions& options) {
  return Call(options, &v1::Admin::Stub::Drain, v1::DrainRequest(),
              [](const v1::DrainResponse& done) {
                if (done.sessions() == 0)
                  return std::string("no session is open: the daemon ends now");
                return absl::StrCat("nothing new is granted; the daemon ends after the last of ",
                                    Count(done.sessions(), "session"));
              });
}

}  // namespace tenure::ctl

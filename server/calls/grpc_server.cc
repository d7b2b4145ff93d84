#include "server/calls/grpc_server.h"

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "grpc/health/v1/health.pb.h"
#include <google/protobuf/message.h>
#include <grpc/support/log.h>
#include <grpc/support/time.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/server_posix.h>
#include <spdlog/spdlog.h>

#include "common/limits.h"

namespace tenure::server {
namespace {

// Calls in progress on one connection. A client needs a few; more would let one client fill the
// executor's queue.
constexpr int kMaxStreamsPerConnection = 64;
// Memory that gRPC may use for the buffers of all connections.
constexpr size_t kGrpcMemoryBytes = size_t{256} << 20;

// gRPC's own way to log writes to stderr and waits for its reader.
void LogForGrpc(gpr_log_func_args* line) {
  const auto level = line->severity == GPR_LOG_SEVERITY_ERROR  ? spdlog::level::err
                     : line->severity == GPR_LOG_SEVERITY_INFO ? spdlog::level::info
                                                               : spdlog::level::debug;
  spdlog::log(level, "gRPC: {} ({}:{})", line->message, line->file, line->line);
}

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(
    const std::vector<NamedService>& services) {
  // gRPC answers the health service without its descriptor. Reflection describes what is linked,
  // and without this line the linker would leave the descriptor out.
  google::protobuf::LinkMessageReflection<grpc::health::v1::HealthCheckRequest>();
  // All three are switches of the process, and must be set before the builder exists.
  gpr_set_log_function(&LogForGrpc);
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  std::vector<std::string> names;
  for (const NamedService& service : services) {
    builder.RegisterService(service.service);
    names.push_back(service.name);
  }
  builder.SetMaxReceiveMessageSize(static_cast<int>(kMaxMessageBytes));
  builder.SetMaxSendMessageSize(static_cast<int>(kMaxMessageBytes));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
  builder.SetResourceQuota(grpc::ResourceQuota("tenured").Resize(kGrpcMemoryBytes));
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr)
    return absl::InternalError("gRPC cannot start a server; the log above says why");
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(server), std::move(names)));
}

void GrpcServer::SetServing(bool serving) {
  grpc::HealthCheckServiceInterface* const health = server_->GetHealthCheckService();
  health->SetServingStatus(serving);
  for (const std::string& name : names_) health->SetServingStatus(name, serving);
}

void GrpcServer::AddConnection(UniqueFd socket) {
  grpc::AddInsecureChannelFromFd(server_.get(), socket.Release());
}

void GrpcServer::Shutdown() {
  // With a deadline that has passed: without one, gRPC waits for the clients to hang up, and idle
  // clients do not.
  server_->Shutdown(gpr_time_0(GPR_CLOCK_MONOTONIC));
  server_->Wait();
}

}  // namespace tenure::server

// Every request message, sent over a real socket to a daemon in this process: the daemon answers
// each and its books balance.
//
// An input is a row of calls: a byte that chooses the method, a byte with the length, and the bytes
// of the message. Where these are a message, even ids in it stand for real ones, so that what they
// name is reached.

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>

#include "common/check.h"
#include "common/cuda/driver_path.h"
#include "server/daemon.h"
#include "tenure/v1/admin.pb.h"
#include "tenure/v1/allocator.pb.h"
#include "tenure/v1/stats.pb.h"

namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

struct Method {
  const char* path;
  const Message* request;
};

const std::vector<Method>& Methods() {
  namespace v1 = tenure::v1;
  // Left out: Revoke and Drain, which would end this process.
  static const std::vector<Method> methods = {
      {"/tenure.v1.Allocator/OpenSession", &v1::OpenSessionRequest::default_instance()},
      {"/tenure.v1.Allocator/KeepAlive", &v1::KeepAliveRequest::default_instance()},
      {"/tenure.v1.Allocator/Allocate", &v1::AllocateRequest::default_instance()},
      {"/tenure.v1.Allocator/AllocateBatch", &v1::AllocateBatchRequest::default_instance()},
      {"/tenure.v1.Allocator/Free", &v1::FreeRequest::default_instance()},
      {"/tenure.v1.Allocator/FreeBatch", &v1::FreeBatchRequest::default_instance()},
      {"/tenure.v1.Allocator/ReleaseRegions", &v1::ReleaseRegionsRequest::default_instance()},
      {"/tenure.v1.Allocator/CloseSession", &v1::CloseSessionRequest::default_instance()},
      {"/tenure.v1.Stats/GetStats", &v1::GetStatsRequest::default_instance()},
      {"/tenure.v1.Stats/ListSessions", &v1::ListSessionsRequest::default_instance()},
      {"/tenure.v1.Stats/ListAllocations", &v1::ListAllocationsRequest::default_instance()},
      {"/tenure.v1.Stats/Ping", &v1::PingRequest::default_instance()},
      {"/tenure.v1.Admin/Trim", &v1::TrimRequest::default_instance()},
  };
  return methods;
}

// The daemon, and a client that knows how to say anything.
class Target {
 public:
  Target() {
    folder_ = "/tmp/tenure-requests-fuzz-" + std::to_string(getpid());
    std::filesystem::create_directories(folder_);
    setenv("TENURE_EMULATED_DIR", (folder_ + "/card").c_str(), 1);
    setenv("TENURE_EMULATED_MEMORY", "256MiB", 1);
    driver_ = *tenure::cuda::Driver::Load(*tenure::cuda::ResolveDriver("emulated"));
    tenure::server::Config config;
    config.driver = "emulated";
    config.socket = folder_ + "/grpc.sock";
    config.http = "off";
    config.max_tenant_requests = 10'000'000;
    auto daemon =
        tenure::server::Daemon::Start(config, *driver_, *tenure::cuda::Identify(*driver_, "0"));
    TENURE_CHECK(daemon.ok());
    daemon_ = *std::move(daemon);
    stub_ = std::make_unique<grpc::GenericStub>(
        grpc::CreateChannel("unix:" + config.socket, grpc::InsecureChannelCredentials()));
  }
  ~Target() {
    stub_.reset();
    daemon_.reset();
    std::filesystem::remove_all(folder_);
  }

  void Call(const Method& method, const std::string& bytes) {
    std::unique_ptr<Message> message(method.request->New());
    std::string sent = bytes;
    if (message->ParseFromString(bytes)) {
      UseRealIds(*message);
      sent = message->SerializeAsString();
    }
    const std::string answer = Send(method.path, sent);
    tenure::v1::OpenSessionResponse opened;
    if (method.request == &tenure::v1::OpenSessionRequest::default_instance() &&
        opened.ParseFromString(answer) && opened.session_id() != 0) {
      session_ = opened.session_id();
    }
    tenure::v1::AllocateResponse allocated;
    if (method.request == &tenure::v1::AllocateRequest::default_instance() &&
        allocated.ParseFromString(answer) && allocated.has_token()) {
      allocation_ = allocated.token().allocation_id();
    }
  }

  void CheckBooks() {
    tenure::v1::GetStatsResponse stats;
    TENURE_CHECK(stats.ParseFromString(Send("/tenure.v1.Stats/GetStats", "")));
    TENURE_CHECK(stats.health() == "SERVING");
    TENURE_CHECK(stats.total_bytes() ==
                 stats.driver_free_bytes() + stats.reserved_bytes() + stats.other_bytes());
    TENURE_CHECK(stats.reserved_bytes() ==
                 stats.leased_bytes() + stats.warm_bytes() + stats.quarantined_bytes());
  }

 private:
  void UseRealIds(Message& message) {
    const google::protobuf::Reflection* const fields = message.GetReflection();
    for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
      const FieldDescriptor* const field = message.GetDescriptor()->field(i);
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && field->is_repeated()) {
        for (int j = 0; j < fields->FieldSize(message, field); ++j) {
          UseRealIds(*fields->MutableRepeatedMessage(&message, field, j));
        }
      }
      if (field->cpp_type() != FieldDescriptor::CPPTYPE_UINT64 || field->is_repeated()) continue;
      if (fields->GetUInt64(message, field) % 2 == 1) continue;
      if (field->name() == "session_id") fields->SetUInt64(&message, field, session_);
      if (field->name() == "allocation_id") fields->SetUInt64(&message, field, allocation_);
      if (field->name() == "request_id") fields->SetUInt64(&message, field, ++request_);
    }
  }

  // The answer's bytes; empty for an error. Every call is answered.
  std::string Send(const std::string& path, const std::string& bytes) {
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    const grpc::Slice slice(bytes);
    const grpc::ByteBuffer request(&slice, 1);
    const auto call = stub_->PrepareUnaryCall(&context, path, request, &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    TENURE_CHECK(queue.Next(&tag, &ok));
    std::vector<grpc::Slice> slices;
    std::string all;
    if (!status.ok() || !response.Dump(&slices).ok()) return all;
    for (const grpc::Slice& one : slices) {
      all.append(reinterpret_cast<const char*>(one.begin()), one.size());
    }
    return all;
  }

  std::string folder_;
  std::unique_ptr<tenure::cuda::Driver> driver_;
  std::unique_ptr<tenure::server::Daemon> daemon_;
  std::unique_ptr<grpc::GenericStub> stub_;
  uint64_t session_ = 0;
  uint64_t allocation_ = 0;
  uint64_t request_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Target target;
  while (size >= 2) {
    const Method& method = Methods()[data[0] % Methods().size()];
    const size_t length = std::min<size_t>(data[1], size - 2);
    target.Call(method, std::string(reinterpret_cast<const char*>(data) + 2, length));
    data += 2 + length;
    size -= 2 + length;
  }
  target.CheckBooks();
  return 0;
}

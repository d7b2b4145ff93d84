#include "tests/support/raw_session.h"

#include <random>

namespace tenure::testing {

RawSession::RawSession(v1::Allocator::Stub& stub) : stub_(stub) {
  grpc::ClientContext context;
  v1::OpenSessionRequest request;
  request.set_request_id((uint64_t{std::random_device()()} << 32) | std::random_device()() | 1);
  request.set_name("raw");
  v1::OpenSessionResponse response;
  if (stub_.OpenSession(&context, request, &response).ok()) id_ = response.session_id();
}

v1::AllocateRequest RawSession::Request(uint64_t size_bytes) {
  v1::AllocateRequest request;
  request.set_session_id(id_);
  request.set_request_id(NextRequestId());
  request.set_size_bytes(size_bytes);
  return request;
}

grpc::Status RawSession::Send(const v1::AllocateRequest& request, v1::Token* token) {
  grpc::ClientContext context;
  v1::AllocateResponse response;
  const grpc::Status status = stub_.Allocate(&context, request, &response);
  if (token != nullptr) *token = response.token();
  return status;
}

v1::FreeRequest RawSession::FreeRequest(uint64_t allocation_id) {
  v1::FreeRequest request;
  request.set_session_id(id_);
  request.set_request_id(NextRequestId());
  request.set_allocation_id(allocation_id);
  request.set_unmapped(true);
  return request;
}

grpc::Status RawSession::Send(const v1::FreeRequest& request, v1::FreeResponse* response) {
  grpc::ClientContext context;
  v1::FreeResponse ignored;
  return stub_.Free(&context, request, response == nullptr ? &ignored : response);
}

grpc::Status RawSession::KeepAlive() {
  grpc::ClientContext context;
  v1::KeepAliveRequest request;
  request.set_session_id(id_);
  v1::KeepAliveResponse response;
  return stub_.KeepAlive(&context, request, &response);
}

grpc::Status RawSession::Close() {
  grpc::ClientContext context;
  v1::CloseSessionRequest request;
  request.set_session_id(id_);
  v1::CloseSessionResponse response;
  return stub_.CloseSession(&context, request, &response);
}

}  // namespace tenure::testing

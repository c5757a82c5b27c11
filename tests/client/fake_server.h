// A persistd for client tests: a real gRPC server whose answers the test writes. Handlers run on gRPC's threads,
// several at a time. Set them before the first call, and let what they use outlive the server.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>

#include "cim/persistence/v1/admin.grpc.pb.h"
#include "cim/persistence/v1/aggregates.grpc.pb.h"
#include "cim/persistence/v1/errors.pb.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"

namespace persistd::testing {

// A failure as the daemon sends it, with its ErrorDetail in the trailer.
inline grpc::Status DaemonError(grpc::StatusCode code, const std::string& message,
                                const cim::persistence::v1::ErrorDetail& detail) {
  cim::persistence::v1::Status status;
  status.set_code(code);
  status.set_message(message);
  status.add_details()->PackFrom(detail);
  return {code, message, status.SerializeAsString()};
}

inline grpc::Status DaemonError(grpc::StatusCode code, cim::persistence::v1::ErrorReason reason) {
  cim::persistence::v1::ErrorDetail detail;
  detail.set_reason(reason);
  return DaemonError(code, cim::persistence::v1::ErrorReason_Name(reason), detail);
}

class FakeServer {
 public:
  template <typename Request, typename Response>
  using Handler = std::function<grpc::Status(const Request&, Response&)>;
  using HistoryHandler = std::function<grpc::Status(const cim::persistence::v1::GetHistoryRequest&,
                                                    grpc::ServerWriter<cim::persistence::v1::RecordedEvent>&)>;

  Handler<cim::persistence::v1::SaveRequest, cim::persistence::v1::SaveResponse> on_save;
  Handler<cim::persistence::v1::LoadRequest, cim::persistence::v1::LoadResponse> on_load;
  Handler<cim::persistence::v1::GetAtVersionRequest, cim::persistence::v1::LoadResponse> on_get_at_version;
  Handler<cim::persistence::v1::GetMetadataRequest, cim::persistence::v1::AggregateMetadata> on_get_metadata;
  Handler<cim::persistence::v1::GetServerInfoRequest, cim::persistence::v1::GetServerInfoResponse> on_get_server_info;
  Handler<cim::persistence::v1::CreateAggregateTypeRequest, cim::persistence::v1::CreateAggregateTypeResponse>
      on_create_type;
  Handler<cim::persistence::v1::ListAggregateTypesRequest, cim::persistence::v1::ListAggregateTypesResponse>
      on_list_types;
  Handler<cim::persistence::v1::DescribeAggregateTypeRequest, cim::persistence::v1::DescribeAggregateTypeResponse>
      on_describe_type;
  HistoryHandler on_get_history;

  ~FakeServer() { Stop(); }

  // Listens on `address`; by default on a free port of 127.0.0.1.
  void Start(const std::string& address = "127.0.0.1:0") {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&aggregates_).RegisterService(&admin_);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr) throw std::runtime_error("cannot listen on " + address);
    address_ = address.rfind("127.0.0.1", 0) == 0 ? "127.0.0.1:" + std::to_string(port) : address;
  }

  void Stop() {
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
    server_.reset();
  }

  const std::string& address() const { return address_; }

 private:
  template <typename Request, typename Response>
  static grpc::Status Answer(const Handler<Request, Response>& handler, const Request& request, Response& response) {
    if (!handler) return {grpc::StatusCode::UNIMPLEMENTED, "the test answers no such call"};
    return handler(request, response);
  }

  struct Aggregates final : cim::persistence::v1::AggregateService::Service {
    explicit Aggregates(FakeServer& fake) : fake_(fake) {}

    grpc::Status Save(grpc::ServerContext*, const cim::persistence::v1::SaveRequest* request,
                      cim::persistence::v1::SaveResponse* response) override {
      return Answer(fake_.on_save, *request, *response);
    }
    grpc::Status Load(grpc::ServerContext*, const cim::persistence::v1::LoadRequest* request,
                      cim::persistence::v1::LoadResponse* response) override {
      return Answer(fake_.on_load, *request, *response);
    }
    grpc::Status GetAtVersion(grpc::ServerContext*, const cim::persistence::v1::GetAtVersionRequest* request,
                              cim::persistence::v1::LoadResponse* response) override {
      return Answer(fake_.on_get_at_version, *request, *response);
    }
    grpc::Status GetMetadata(grpc::ServerContext*, const cim::persistence::v1::GetMetadataRequest* request,
                             cim::persistence::v1::AggregateMetadata* response) override {
      return Answer(fake_.on_get_metadata, *request, *response);
    }
    grpc::Status GetHistory(grpc::ServerContext*, const cim::persistence::v1::GetHistoryRequest* request,
                            grpc::ServerWriter<cim::persistence::v1::RecordedEvent>* writer) override {
      if (!fake_.on_get_history) return {grpc::StatusCode::UNIMPLEMENTED, "the test answers no such call"};
      return fake_.on_get_history(*request, *writer);
    }

    FakeServer& fake_;
  };

  struct Admin final : cim::persistence::v1::AdminService::Service {
    explicit Admin(FakeServer& fake) : fake_(fake) {}

    grpc::Status GetServerInfo(grpc::ServerContext*, const cim::persistence::v1::GetServerInfoRequest* request,
                               cim::persistence::v1::GetServerInfoResponse* response) override {
      return Answer(fake_.on_get_server_info, *request, *response);
    }
    grpc::Status CreateAggregateType(grpc::ServerContext*,
                                     const cim::persistence::v1::CreateAggregateTypeRequest* request,
                                     cim::persistence::v1::CreateAggregateTypeResponse* response) override {
      return Answer(fake_.on_create_type, *request, *response);
    }
    grpc::Status ListAggregateTypes(grpc::ServerContext*,
                                    const cim::persistence::v1::ListAggregateTypesRequest* request,
                                    cim::persistence::v1::ListAggregateTypesResponse* response) override {
      return Answer(fake_.on_list_types, *request, *response);
    }
    grpc::Status DescribeAggregateType(grpc::ServerContext*,
                                       const cim::persistence::v1::DescribeAggregateTypeRequest* request,
                                       cim::persistence::v1::DescribeAggregateTypeResponse* response) override {
      return Answer(fake_.on_describe_type, *request, *response);
    }

    FakeServer& fake_;
  };

  Aggregates aggregates_{*this};
  Admin admin_{*this};
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

}  // namespace persistd::testing

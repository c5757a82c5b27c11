// A server in this process on a free port, a channel to it, and what tests ask of answers.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cim/persistence/v1/errors.pb.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "server/rpc/server.h"
#include "tests/testing/must.h"

namespace persistd::testing {

// Longer than anything here takes; a test that hangs fails by it.
inline constexpr std::chrono::seconds kPatience{30};

class RpcServer {
 public:
  explicit RpcServer(std::vector<rpc::Service> services, rpc::Server::Options options = {}) {
    options.listen_address = "127.0.0.1:0";
    server_ = Must(rpc::Server::Create(options, std::move(services)));
    server_->Start();
    channel_ = NewChannel();
  }

  rpc::Server& server() const { return *server_; }
  // With a connection of its own.
  std::shared_ptr<grpc::Channel> NewChannel() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    return grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", server_->port()), grpc::InsecureChannelCredentials(),
                                     arguments);
  }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

 private:
  std::unique_ptr<rpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

// A call that fails rather than hangs.
inline std::unique_ptr<grpc::ClientContext> NewContext(std::chrono::milliseconds timeout = kPatience) {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(std::chrono::system_clock::now() + timeout);
  return context;
}

// The detail in the trailer; nullopt when there is none, or more than one, or it does not match the status.
inline std::optional<cim::persistence::v1::ErrorDetail> DetailOf(const grpc::Status& status) {
  cim::persistence::v1::Status wire;
  cim::persistence::v1::ErrorDetail detail;
  if (!wire.ParseFromString(status.error_details()) || wire.details_size() != 1) return std::nullopt;
  if (wire.code() != status.error_code() || wire.message() != status.error_message()) return std::nullopt;
  if (!wire.details(0).UnpackTo(&detail)) return std::nullopt;
  return detail;
}

inline cim::persistence::v1::ErrorReason ReasonOf(const grpc::Status& status) {
  return DetailOf(status).value_or(cim::persistence::v1::ErrorDetail()).reason();
}

}  // namespace persistd::testing

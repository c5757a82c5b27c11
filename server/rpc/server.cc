#include "server/rpc/server.h"

#include <pthread.h>

#include <algorithm>
#include <cstring>
#include <future>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_builder.h"
#include "server/base/burst.h"
#include "server/base/logging.h"
#include "server/base/status_macros.h"
#include "server/rpc/connections.h"
#include "server/rpc/listen_address.h"

namespace persistd::rpc {
namespace {

using std::chrono::milliseconds;

// Calls that a queue waits for, for each method: enough that a burst finds one ready.
constexpr int kAcceptsPerMethod = 32;
// More streams of reflection at a time are refused.
constexpr int kMaxReflectionThreads = 32;
// What gRPC receives beyond max_request_bytes, so that such requests get an error of ours, with its detail.
constexpr uint64_t kReceiveMarginBytes = 1u << 20;
// For calls that are cut off to answer.
constexpr milliseconds kAnswerTime{500};
// How long nobody must have called before gRPC is shut down, and how long that is waited for.
constexpr milliseconds kQuietTime{100};
constexpr milliseconds kMostLinger{1000};
// For the transport to send the ends of calls that have ended.
constexpr milliseconds kFlushTime{250};
// For gRPC to cancel calls and close connections by itself.
constexpr milliseconds kCancelTime{500};
// Between two warnings about calls that do not end.
constexpr milliseconds kWarnInterval{5000};
// How long the end of a unary call may go unnoticed while no others come.
constexpr milliseconds kEmptyEndsInterval{100};
// How often an idle connection is asked whether its client is still there, and how long the client may take.
constexpr milliseconds kKeepaliveTime{60'000};
constexpr milliseconds kKeepaliveTimeout{20'000};
// How often clients may ask the same.
constexpr milliseconds kMinClientPingInterval{10'000};

std::set<std::string> NamesOf(const std::vector<Service>& services) {
  std::set<std::string> names;
  for (const Service& service : services) names.insert(service.name());
  return names;
}

void AddArgument(grpc::ServerBuilder& builder, const char* name, milliseconds value) {
  builder.AddChannelArgument(name, static_cast<int>(value.count()));
}

void Configure(grpc::ServerBuilder& builder, const Server::Options& options) {
  builder.SetMaxReceiveMessageSize(
      static_cast<int>(std::min<uint64_t>(options.max_request_bytes + kReceiveMarginBytes, INT32_MAX)));
  // Otherwise two daemons could share a port without knowing, each getting some of the connections.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Streams may be silent for long: clients may ping without calls, and clients that vanished are noticed.
  AddArgument(builder, GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTime);
  AddArgument(builder, GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeout);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  AddArgument(builder, GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kMinClientPingInterval);
  // Only reflection is synchronous: one queue and little waiting for it.
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 1);
  // Each open reflection stream has a thread.
  grpc::ResourceQuota quota("persistd");
  quota.SetMaxThreads(kMaxReflectionThreads);
  builder.SetResourceQuota(quota);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Create(Options options, std::vector<Service> services) {
  std::unique_ptr<Server> server(new Server(options, std::move(services)));
  RETURN_IF_ERROR(server->Listen(options));
  return server;
}

Server::Server(const Options& options, std::vector<Service> services)
    : host_{.max_request_bytes = options.max_request_bytes,
            .default_deadline = options.default_deadline,
            .default_stream_deadline = options.default_stream_deadline,
            .admission = Admission(options.max_concurrent_calls)},
      health_(NamesOf(services)),
      services_(std::move(services)) {
  services_.push_back(health_.MakeService());
  for (const Service& service : services_) grpc_services_.push_back(std::make_unique<GrpcService>(service, &host_));
}

absl::Status Server::Listen(const Options& options) {
  RETURN_IF_ERROR(CheckCanListen(options.listen_address));
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  Configure(builder, options);
  builder.AddListeningPort(options.listen_address, grpc::InsecureServerCredentials(), &port_);
  for (const auto& service : grpc_services_) builder.RegisterService(service.get());
  for (int i = 0; i < std::max(options.threads, 1); ++i) {
    CallQueues queues;
    queues.calls = queues_.emplace_back(builder.AddCompletionQueue()).get();
    queues.ends = queues_.emplace_back(builder.AddCompletionQueue(/*is_frequently_polled=*/false)).get();
    polled_.push_back(queues);
  }
  grpc_server_ = builder.BuildAndStart();
  if (grpc_server_ != nullptr) return absl::OkStatus();
  polled_.clear();
  queues_.clear();  // Unused: not to be shut down.
  return absl::FailedPreconditionError(
      absl::StrCat("cannot listen on ", options.listen_address, ": see what gRPC logged before this"));
}

Server::~Server() { Shutdown(milliseconds(0)); }

void Server::Start() {
  base::MutexLock lock(lifecycle_mutex_);
  if (shut_down_ || !threads_.empty()) return;
  for (const CallQueues& queues : polled_) {
    for (const auto& service : grpc_services_) {
      for (size_t method = 0; method < service->method_count(); ++method) {
        for (int i = 0; i < kAcceptsPerMethod; ++i) service->Accept(method, queues);
      }
    }
    threads_.emplace_back(Poll, queues);
    pthread_setname_np(threads_.back().native_handle(), absl::StrCat("grpc-", threads_.size()).c_str());
  }
}

std::vector<MethodCalls> Server::calls() const {
  std::vector<MethodCalls> all;
  for (const auto& service : grpc_services_) {
    for (size_t index = 0; index < service->method_count(); ++index) {
      const std::vector<std::string> path = absl::StrSplit(service->method(index).path, '/');  // /Service/Method
      all.push_back({.service = path[1], .method = path[2], .counts = service->stats(index).Read()});
    }
  }
  return all;
}

void Server::Poll(CallQueues queues) {
  using Queue = grpc::CompletionQueue;
  const gpr_timespec at_once = gpr_inf_past(GPR_CLOCK_MONOTONIC);
  void* tag = nullptr;
  bool ok = false;
  while (true) {
    const Queue::NextStatus status =
        queues.calls->AsyncNext(&tag, &ok, std::chrono::system_clock::now() + kEmptyEndsInterval);
    if (status == Queue::SHUTDOWN) break;
    if (status == Queue::GOT_EVENT) {
      base::Burst::Begin();
      int things = 0;
      do {
        static_cast<Call::Event*>(tag)->Complete(ok);
      } while (++things < base::Burst::kMaxThings && queues.calls->AsyncNext(&tag, &ok, at_once) == Queue::GOT_EVENT);
      base::Burst::End();
    }
    Call::HandleEnds(*queues.ends);
  }
  while (queues.ends->Next(&tag, &ok)) static_cast<Call::Event*>(tag)->Complete(ok);
}

void Server::ShutdownGrpc(milliseconds flush_time) {
  std::promise<void> done;
  std::thread breaker([this, flush_time, ended = done.get_future()] {
    if (ended.wait_for(flush_time + kCancelTime) == std::future_status::timeout) BreakConnections(port_);
  });
  // gRPC refuses new calls now, lets the transport finish what was answered, then cancels what is left.
  grpc_server_->Shutdown(std::chrono::system_clock::now() + flush_time);
  done.set_value();
  breaker.join();
}

void Server::Shutdown(milliseconds grace, const std::function<void()>& cut_off) {
  base::MutexLock lock(lifecycle_mutex_);
  if (shut_down_) return;
  shut_down_ = true;
  const base::SteadyTime deadline = std::chrono::steady_clock::now() + grace;
  health_.Shutdown();
  host_.admission.Close();
  host_.request_streams.Stop();
  bool idle = host_.admission.WaitUntilIdle(deadline);
  if (!idle && cut_off) {
    cut_off();
    idle = host_.admission.WaitUntilIdle(std::chrono::steady_clock::now() + kAnswerTime);
  }
  // gRPC cancels the calls that come while it shuts down, without a word on why. So refusals go on until callers pause.
  host_.admission.WaitUntilQuiet(kQuietTime, std::min(deadline, std::chrono::steady_clock::now() + kMostLinger));
  if (grpc_server_ != nullptr) ShutdownGrpc(idle ? std::min(kFlushTime, grace) : milliseconds(0));
  // gRPC answers whatever waited for a caller with "not ok". Only when no object is left can nothing start an operation
  // any more, and only then may the queues be shut.
  if (!threads_.empty()) {
    while (!host_.admission.WaitUntilGone(std::chrono::steady_clock::now() + kWarnInterval)) {
      base::LogWarn("shutdown waits for calls that were cancelled but do not end");
    }
  }
  for (const auto& queue : queues_) queue->Shutdown();
  if (threads_.empty()) {
    for (const CallQueues& queues : polled_) Poll(queues);
  }
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace persistd::rpc

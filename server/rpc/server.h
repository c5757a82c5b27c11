// The gRPC server: listens, runs calls (call.h) on its own threads, tells its health, shuts down in order.
//
//   Create  binds the address, so that its port is known; callers that connect wait.
//   Start   takes calls. Health is NOT_SERVING.
//   SetServing(true)  when what the services stand on is ready.
//   Shutdown  NOT_SERVING; new calls get SHUTTING_DOWN; running calls may finish; what is left is cancelled.
//
// Health (grpc.health.v1) and reflection are always on. Thread-safe, but do not call Shutdown or the destructor on a
// thread of the server, that is, in a handler.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "grpcpp/server.h"
#include "server/base/mutex.h"
#include "server/rpc/call.h"
#include "server/rpc/call_stats.h"
#include "server/rpc/health.h"
#include "server/rpc/service.h"

namespace persistd::rpc {

class Server {
 public:
  struct Options {
    std::string listen_address = "127.0.0.1:7443";  // HOST:PORT; port 0 picks a free one.
    int threads = 1;                                // That take calls; each has a queue of its own.
    uint64_t max_request_bytes = 4u << 20;          // Larger requests are refused.
    std::chrono::milliseconds default_deadline = std::chrono::seconds(30);       // Of unary calls that set none.
    std::chrono::milliseconds default_stream_deadline = std::chrono::hours(24);  // Of streams that set none.
    int max_concurrent_calls = 10'000;                                           // More are refused.
  };

  static absl::StatusOr<std::unique_ptr<Server>> Create(Options options, std::vector<Service> services);
  ~Server();  // Shuts down without grace.
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  int port() const { return port_; }
  void Start();
  // Of every method, those of health too; reflection is not counted.
  std::vector<MethodCalls> calls() const;
  void SetServing(bool serving) { health_.SetServing(serving); }
  // Refuses new calls, lets running ones finish within `grace`, then calls `cut_off`, if there is one, which is to make
  // the others end soon with an error of their own. Returns when every handler has ended and nothing of a call is left.
  // A second call waits for the first.
  void Shutdown(std::chrono::milliseconds grace, const std::function<void()>& cut_off = nullptr);

 private:
  Server(const Options& options, std::vector<Service> services);
  absl::Status Listen(const Options& options);
  // Returns when no connection is left. flush_time: what answers that were given have to get out.
  void ShutdownGrpc(std::chrono::milliseconds flush_time);
  static void Poll(CallQueues queues);

  CallHost host_;
  Health health_;
  std::vector<Service> services_;
  std::vector<std::unique_ptr<GrpcService>> grpc_services_;
  // Outlive grpc_server_, as gRPC demands.
  std::vector<std::unique_ptr<grpc::ServerCompletionQueue>> queues_;
  std::vector<CallQueues> polled_;  // By a thread each.
  std::unique_ptr<grpc::Server> grpc_server_;
  int port_ = 0;
  base::Mutex lifecycle_mutex_;
  std::vector<std::thread> threads_ GUARDED_BY(lifecycle_mutex_);
  bool shut_down_ GUARDED_BY(lifecycle_mutex_) = false;
};

}  // namespace persistd::rpc

// The baseline "gRPC echo": answers every unary call with the bytes of its request. One completion queue, one thread,
// nothing else, so that it is as fast as a gRPC server of this machine can be. Run by tests/bench.
//
// usage: echo_server PORT_FILE

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <string>

namespace {

class Echo {
 public:
  Echo(grpc::AsyncGenericService* service, grpc::ServerCompletionQueue* queue)
      : service_(service), queue_(queue), stream_(&context_) {
    service_->RequestCall(&context_, &stream_, queue_, queue_, this);
  }

  // False: it is over.
  bool Proceed(bool ok) {
    switch (step_) {
      case Step::kCalled:
        if (!ok) return false;
        new Echo(service_, queue_);  // For the next call; deleted by the loop in main.
        step_ = Step::kRead;
        stream_.Read(&bytes_, this);
        return true;
      case Step::kRead:
        step_ = Step::kAnswered;
        if (ok) {
          stream_.WriteAndFinish(bytes_, grpc::WriteOptions(), grpc::Status::OK, this);
        } else {
          stream_.Finish(grpc::Status::OK, this);
        }
        return true;
      case Step::kAnswered:
        return false;
    }
    return false;
  }

 private:
  enum class Step { kCalled, kRead, kAnswered };

  grpc::AsyncGenericService* const service_;
  grpc::ServerCompletionQueue* const queue_;
  grpc::GenericServerContext context_;
  grpc::GenericServerAsyncReaderWriter stream_;
  grpc::ByteBuffer bytes_;
  Step step_ = Step::kCalled;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  grpc::AsyncGenericService service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterAsyncGenericService(&service);
  const std::unique_ptr<grpc::ServerCompletionQueue> queue = builder.AddCompletionQueue();
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return 1;
  const std::string file = argv[1];
  std::ofstream(file + ".new") << "127.0.0.1:" << port;
  if (std::rename((file + ".new").c_str(), file.c_str()) != 0) return 1;
  new Echo(&service, queue.get());
  void* tag = nullptr;
  bool ok = false;
  while (queue->Next(&tag, &ok)) {
    Echo* const echo = static_cast<Echo*>(tag);
    if (!echo->Proceed(ok)) delete echo;
  }
  return 0;
}

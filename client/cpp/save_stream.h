// Saves many aggregates over one call, without waiting for one answer before the next save is sent.
//
//   std::unique_ptr<SaveStream> stream = client.OpenSaveStream();
//   for (...) stream->Save(request, [](absl::StatusOr<SaveResponse> saved) { ... });
//   absl::Status status = stream->Finish();
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cim/persistence/v1/aggregates.pb.h"
#include "client/cpp/retry.h"
#include "client/cpp/stub.h"

namespace persistd::client {

// Saves of one aggregate are carried out in the order in which they were given; answers come as saves end, in any
// order. A save without `request_id` gets a fresh one. When the daemon or the connection goes away, the stream opens
// another call and sends again what was not answered, with the same ids: each save is stored at most once. A single
// save that fails is not repeated: its error says why, and does not touch the others.
//
// Thread-safe, but for Finish and the destructor.
class SaveStream {
 public:
  using Response = absl::StatusOr<cim::persistence::v1::SaveResponse>;
  // Called once for each save, on a thread of the stream. It must not block for long, and not call this stream.
  using Done = std::function<void(Response)>;

  struct Options {
    // Saves that are under way at the same time; the daemon takes `commit.max_stream_saves` at once.
    size_t window = 256;
    RetryPolicy retry = {};
  };

  SaveStream(std::shared_ptr<Stub> stub, std::shared_ptr<Clock> clock, Options options);
  // Cancels what is not answered: their `done` gets CANCELLED, and they may be stored all the same.
  ~SaveStream();
  SaveStream(const SaveStream&) = delete;
  SaveStream& operator=(const SaveStream&) = delete;

  // Waits while `window` saves are under way.
  void Save(cim::persistence::v1::SaveRequest request, Done done);
  std::future<Response> Save(cim::persistence::v1::SaveRequest request);

  // Waits until every save is answered, and ends the stream. Not OK when the stream broke for good: what was not
  // answered by then got that error, and so does what is saved afterwards.
  absl::Status Finish();

 private:
  struct Pending {
    cim::persistence::v1::SaveStreamRequest request;
    Done done;
  };

  void Run();
  // One call, until it ends; OK when everything is answered and nothing more comes.
  absl::Status RunCall(SaveStreamCall& call);
  void ReadAnswers(SaveStreamCall& call);
  void FailAll(const absl::Status& status);

  const std::shared_ptr<Stub> stub_;
  const std::shared_ptr<Clock> clock_;
  const Options options_;

  std::mutex mutex_;
  std::condition_variable changed_;
  // What follows is guarded by mutex_.
  std::map<uint64_t, Pending> pending_;  // By id, which is the order of saving.
  uint64_t next_id_ = 1;
  uint64_t next_to_send_ = 1;  // On the call in progress.
  bool answered_any_ = false;  // By the call in progress.
  bool call_ended_ = false;    // The call in progress gives no more answers.
  bool finishing_ = false;
  std::shared_ptr<SaveStreamCall> call_;
  bool cancelled_ = false;
  bool ended_ = false;  // Nothing is sent any more.
  absl::Status end_;    // Why, when it is not because of Finish.

  std::thread sender_;
};

}  // namespace persistd::client

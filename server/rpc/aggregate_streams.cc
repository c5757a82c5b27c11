// The two calls of AggregateService with a stream of requests. Each request is a task of its own.
#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "server/base/mutex.h"
#include "server/domain/errors.h"
#include "server/rpc/aggregate_service.h"
#include "server/rpc/grpc_status.h"
#include "server/rpc/response_mapping.h"
#include "server/rpc/stream_window.h"

namespace persistd::rpc {
namespace {

namespace pb = cim::persistence::v1;

// Of the requests that are under way on one stream, as they were sent; one is always allowed.
constexpr uint64_t kMaxRequestBytes = 16u << 20;
// On one BatchLoad.
constexpr size_t kMaxLoads = 64;
// Of answers of one BatchLoad that wait for earlier ones, or for the client to read.
constexpr uint64_t kMaxAnswerBytes = 16u << 20;
// What a load is expected to need before there was one, and at least.
constexpr uint64_t kFirstAnswerBytes = 1u << 20;
constexpr uint64_t kLeastAnswerBytes = 4u << 10;

// The request was read but is over the limit: it is answered, and the stream goes on.
bool IsTooLarge(const absl::Status& status) { return domain::HasReason(status, pb::ERROR_REASON_TOO_LARGE); }

// The ids of the saves under way. Thread-safe.
class Ids {
 public:
  bool Add(uint64_t id) {
    base::MutexLock lock(mutex_);
    return ids_.insert(id).second;
  }
  void Remove(uint64_t id) {
    base::MutexLock lock(mutex_);
    ids_.erase(id);
  }

 private:
  base::Mutex mutex_;
  absl::flat_hash_set<uint64_t> ids_ GUARDED_BY(mutex_);
};

}  // namespace

struct AggregateService::SaveSession {
  StreamWriter<pb::SaveStreamResponse>& writer;
  StreamWindow window;
  Ids ids{};
};

struct AggregateService::LoadSession {
  StreamWriter<pb::BatchLoadResponse>& writer;
  StreamWindow window{kMaxLoads, kMaxAnswerBytes};
  InOrder order{kMaxLoads};
  // What a load that begins will need, by the largest of those before, which is forgotten little by little.
  std::atomic<uint64_t> expected_bytes{kFirstAnswerBytes};

  void Expect(uint64_t bytes) {
    const uint64_t before = expected_bytes.load(std::memory_order_relaxed);
    // If another one is noted at the same time, one of the two is.
    expected_bytes.store(std::max({bytes, before - before / 8, kLeastAnswerBytes}), std::memory_order_relaxed);
  }
};

base::Task<absl::Status> AggregateService::SaveStream(const CallContext& context,
                                                      StreamReader<pb::SaveStreamRequest>& reader,
                                                      StreamWriter<pb::SaveStreamResponse>& writer) {
  SaveSession session{.writer = writer, .window{static_cast<size_t>(options_.max_stream_saves), kMaxRequestBytes}};
  SaveContext save = NewSaveContext(context);
  pb::SaveStreamRequest request;
  absl::Status status;
  while (true) {
    co_await session.window.Room();
    const absl::StatusOr<bool> read = co_await reader.Next(request);
    if (!read.ok() && !IsTooLarge(read.status())) status = read.status();
    if (!status.ok() || (read.ok() && !*read)) break;
    if (!session.ids.Add(request.id())) {
      status = domain::InvalidField("id", "is the id of a save that is still under way on this stream");
      break;
    }
    save.now = options_.clock->WallNow();
    absl::StatusOr<repository::SaveCommand> command =
        read.ok() ? ToSaveCommand(request.save(), options_.limits, save) : read.status();
    session.window.Enter(reader.last_bytes());
    base::Spawn(SaveOne(session, request.id(), reader.last_bytes(), std::move(command), ItemDeadline(context)));
  }
  co_await session.window.Idle();
  co_return status;
}

base::Task<void> AggregateService::SaveOne(SaveSession& session, uint64_t id, uint64_t bytes,
                                           absl::StatusOr<repository::SaveCommand> command, base::SteadyTime deadline) {
  absl::StatusOr<repository::SaveResult> result;
  if (command.ok()) {
    result = co_await repository_->Save(*std::move(command), deadline);
  } else {
    result = command.status();
  }
  pb::SaveStreamResponse answer;
  answer.set_id(id);
  if (result.ok()) {
    ToProto(*result, options_.fsync(result->replicas), *answer.mutable_saved());
  } else {
    *answer.mutable_error() = ToWireStatus(result.status());
  }
  session.ids.Remove(id);  // The client may use it again once it has the answer.
  co_await session.writer.Write(answer);
  session.window.Leave(bytes);
}

base::Task<absl::Status> AggregateService::BatchLoad(const CallContext& context, StreamReader<pb::LoadRequest>& reader,
                                                     StreamWriter<pb::BatchLoadResponse>& writer) {
  LoadSession session{.writer = writer};
  pb::LoadRequest request;
  absl::Status status;
  for (uint64_t index = 0;; ++index) {
    co_await session.window.Room();
    const absl::StatusOr<bool> read = co_await reader.Next(request);
    if (!read.ok() && !IsTooLarge(read.status())) status = read.status();
    if (!status.ok() || (read.ok() && !*read)) break;
    absl::StatusOr<repository::LoadCommand> command = read.ok() ? ToLoadCommand(request) : read.status();
    const uint64_t expected = session.expected_bytes.load(std::memory_order_relaxed);
    session.window.Enter(expected);
    base::Spawn(LoadOne(session, index, request.payload_view(), std::move(command), expected, ItemDeadline(context)));
  }
  co_await session.window.Idle();
  co_return status;
}

base::Task<void> AggregateService::LoadOne(LoadSession& session, uint64_t index, pb::PayloadView view,
                                           absl::StatusOr<repository::LoadCommand> command, uint64_t expected_bytes,
                                           base::SteadyTime deadline) {
  absl::StatusOr<repository::LoadResult> result;
  if (command.ok()) {
    result = co_await repository_->Load(*std::move(command), deadline);
  } else {
    result = command.status();
  }
  pb::BatchLoadResponse answer;
  answer.set_index(index);
  if (result.ok()) {
    ToProto(*std::move(result), view, *answer.mutable_loaded());
  } else {
    *answer.mutable_error() = ToWireStatus(result.status());
  }
  const uint64_t bytes = answer.ByteSizeLong();
  session.Expect(bytes);
  session.window.Resize(expected_bytes, bytes);
  co_await session.order.Await(index);
  co_await session.writer.Write(answer);
  session.order.Pass();
  session.window.Leave(bytes);
}

}  // namespace persistd::rpc

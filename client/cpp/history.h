// Reads the events of one aggregate, or the entries of one chain, however many there are, over as many calls as it
// takes.
#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cim/persistence/v1/aggregates.pb.h"
#include "cim/persistence/v1/chains.pb.h"
#include "client/cpp/retry.h"
#include "client/cpp/stub.h"

namespace persistd::client {

// What is streamed: a request that is continued, and items that are numbered.
struct HistoryCall {
  using Request = cim::persistence::v1::GetHistoryRequest;
  using Item = cim::persistence::v1::RecordedEvent;
};
struct ChainCall {
  using Request = cim::persistence::v1::GetChainRequest;
  using Item = cim::persistence::v1::GetChainResponse;
};

// Made by Client::History or Client::Chain and independent of the Client's lifetime. Not thread-safe. Destroying it
// ends the call, so it is fine to stop half-way.
//
// When the stream breaks because the daemon or the connection went away, the reader continues by itself after the last
// event it returned: no event is lost or comes twice. Such a history may also contain events saved since it began.
template <typename Call>
class ResumingReader {
 public:
  using Request = typename Call::Request;
  using Item = typename Call::Item;

  struct Options {
    // The longest time that one Next() may take; the whole history may take any time.
    std::chrono::milliseconds timeout;
    RetryPolicy retry;
  };

  ResumingReader(std::shared_ptr<Stub> stub, std::shared_ptr<Clock> clock, Options options, Request request);

  // The next event; nullopt after the last one; or why the history cannot be read on. The last two stay as they are
  // when Next is called again.
  absl::StatusOr<std::optional<Item>> Next();

 private:
  // Takes note of `item`, so that a new call continues after it. INTERNAL when it does not continue the history.
  absl::Status Advance(const Item& item);

  // True when the last event possible was returned, so that there is nothing to call for.
  bool Exhausted() const;

  absl::StatusOr<std::optional<Item>> End(absl::Status status);

  const std::shared_ptr<Stub> stub_;
  const std::shared_ptr<Clock> clock_;
  const Options options_;

  // What is still to be read.
  Request request_;
  bool returned_any_ = false;

  // The call in progress; null between calls.
  std::unique_ptr<ItemStream<Item>> stream_;
  bool stream_delivered_ = false;

  // Set once the history has ended, well or not.
  std::optional<absl::Status> end_;
};

using HistoryReader = ResumingReader<HistoryCall>;
using ChainReader = ResumingReader<ChainCall>;

}  // namespace persistd::client

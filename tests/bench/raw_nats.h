// What JetStream does for a client without persistd: nats.c with one connection and one inbox, requests pipelined. The
// baseline of the ratios, so it is made to be fast: no locks of its own, no copy that nats.c does not ask for.
//
// For one thread. Throws std::runtime_error when NATS cannot be used.
#pragma once

#include <nats/nats.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/jetstream/message.h"

namespace persistd::bench {

class RawNats {
 public:
  // urls: separated by commas; nats.c connects to one of them, in random order, as it does for persistd.
  // send_asap: each publish is a write of its own; otherwise nats.c's flusher thread gathers them.
  RawNats(const std::string& urls, bool send_asap);
  ~RawNats();
  RawNats(const RawNats&) = delete;
  RawNats& operator=(const RawNats&) = delete;

  // An answer comes to Next() with `token`. kNoReply: none is asked for.
  static constexpr uint32_t kNoReply = ~0u;
  void Send(const jetstream::OutgoingMessage& message, uint32_t token);

  // As persistd publishes: `message` under another subject, with the check that the last message of `filter` is at
  // `sequence`. Spares the caller making the other headers anew.
  struct Checked {
    const jetstream::OutgoingMessage& message;
    const std::string& subject;
    const std::string& filter;
    uint64_t sequence = 0;
  };
  void SendChecked(const Checked& checked, uint32_t token);

  struct Answer {
    uint32_t token = 0;
    std::string data = {};
    bool status_only = false;  // An answer that JetStream gives in headers: an error of a direct get.
  };
  // Blocks; throws after 60 seconds without an answer.
  Answer Next();
  // A request and its answer, with nothing else in flight.
  std::string Ask(const std::string& subject, const std::string& body);
  void Flush();

 private:
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

// The `"seq"` of the answer to a publish; 0 when it is an error.
uint64_t SequenceOf(absl::string_view answer);

// Makes `message` one of a batch: batch_id, the position from 1, and whether it ends the batch.
void AddBatchHeaders(const std::string& batch_id, size_t position, bool last, jetstream::OutgoingMessage& message);
// The check that persistd publishes with.
void AddExpectedLast(const std::string& filter, uint64_t sequence, jetstream::OutgoingMessage& message);

// Stores messages as fast as it goes, in order, and returns the sequence of the last one. Those of one call should be
// many. batched: by atomic batches, which is faster where each publish is fsynced.
class BulkWriter {
 public:
  BulkWriter(RawNats* nats, bool batched) : nats_(nats), batched_(batched) {}
  void Add(jetstream::OutgoingMessage message);
  // Waits until all are stored.
  uint64_t Finish();

 private:
  void SendBatch();
  void TakeAnswer();

  RawNats* const nats_;
  const bool batched_;
  std::vector<jetstream::OutgoingMessage> batch_;
  uint32_t in_flight_ = 0;
  uint64_t last_sequence_ = 0;
};

}  // namespace persistd::bench

#include "tests/bench/raw_nats.h"

#include <stdexcept>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/base/clock.h"
#include "server/base/uuid.h"

namespace persistd::bench {
namespace {

constexpr int64_t kPatienceMs = 60'000;
constexpr uint32_t kBulkWindow = 2000;
constexpr char kExpectedLast[] = "Nats-Expected-Last-Subject-Sequence";
constexpr char kExpectedLastSubject[] = "Nats-Expected-Last-Subject-Sequence-Subject";
constexpr size_t kBatch = 1000;  // nats-server's limit for one atomic batch.

void Check(natsStatus status, const char* what) {
  if (status != NATS_OK) throw std::runtime_error(absl::StrCat(what, ": ", natsStatus_GetText(status)));
}

struct MessageDeleter {
  void operator()(natsMsg* message) const { natsMsg_Destroy(message); }
};
using MessagePtr = std::unique_ptr<natsMsg, MessageDeleter>;

}  // namespace

struct RawNats::Impl {
  natsOptions* options = nullptr;
  natsConnection* connection = nullptr;
  natsSubscription* subscription = nullptr;
  std::string inbox;  // Ends with a dot.
  std::string reply;  // Kept for its memory.

  ~Impl() {
    natsSubscription_Destroy(subscription);
    natsConnection_Destroy(connection);
    natsOptions_Destroy(options);
  }

  // With the headers and the data of `message`.
  MessagePtr Make(const std::string& subject, const jetstream::OutgoingMessage& message, uint32_t token) {
    const char* reply_to = nullptr;
    if (token != kNoReply) {
      reply.assign(inbox);
      absl::StrAppend(&reply, token);
      reply_to = reply.c_str();
    }
    natsMsg* raw = nullptr;
    Check(natsMsg_Create(&raw, subject.c_str(), reply_to, message.data.data(), static_cast<int>(message.data.size())),
          "making a message");
    MessagePtr made(raw);
    for (const auto& [name, value] : message.headers.fields()) {
      Check(natsMsgHeader_Set(raw, name.c_str(), value.c_str()), "setting a header");
    }
    return made;
  }
};

RawNats::RawNats(const std::string& urls, bool send_asap) : impl_(std::make_unique<Impl>()) {
  Check(natsOptions_Create(&impl_->options), "making options");
  const std::vector<std::string> list = absl::StrSplit(urls, ',');
  std::vector<const char*> servers;
  for (const std::string& url : list) servers.push_back(url.c_str());
  Check(natsOptions_SetServers(impl_->options, servers.data(), static_cast<int>(servers.size())), "setting the URLs");
  Check(natsOptions_SetSendAsap(impl_->options, send_asap), "setting SendAsap");
  Check(natsOptions_SetAllowReconnect(impl_->options, false), "turning off reconnecting");
  Check(natsConnection_Connect(&impl_->connection, impl_->options), "connecting");
  natsInbox* inbox = nullptr;
  Check(natsInbox_Create(&inbox), "making an inbox");
  impl_->inbox = absl::StrCat(inbox, ".");
  natsInbox_Destroy(inbox);
  Check(natsConnection_SubscribeSync(&impl_->subscription, impl_->connection, (impl_->inbox + "*").c_str()),
        "subscribing");
  Check(natsSubscription_SetPendingLimits(impl_->subscription, -1, -1), "setting limits");
  Flush();
}

RawNats::~RawNats() = default;

void RawNats::Send(const jetstream::OutgoingMessage& message, uint32_t token) {
  const MessagePtr made = impl_->Make(message.subject, message, token);
  Check(natsConnection_PublishMsg(impl_->connection, made.get()), "publishing");
}

void RawNats::SendChecked(const Checked& checked, uint32_t token) {
  const MessagePtr made = impl_->Make(checked.subject, checked.message, token);
  const std::string sequence = absl::StrCat(checked.sequence);
  Check(natsMsgHeader_Set(made.get(), kExpectedLast, sequence.c_str()), "setting a header");
  Check(natsMsgHeader_Set(made.get(), kExpectedLastSubject, checked.filter.c_str()), "setting a header");
  Check(natsConnection_PublishMsg(impl_->connection, made.get()), "publishing");
}

RawNats::Answer RawNats::Next() {
  natsMsg* raw = nullptr;
  Check(natsSubscription_NextMsg(&raw, impl_->subscription, kPatienceMs), "waiting for an answer");
  const MessagePtr owner(raw);
  Answer answer;
  const absl::string_view subject = natsMsg_GetSubject(raw);
  if (!absl::SimpleAtoi(subject.substr(impl_->inbox.size()), &answer.token)) {
    throw std::runtime_error("an answer to a foreign request");
  }
  answer.data.assign(natsMsg_GetData(raw), static_cast<size_t>(natsMsg_GetDataLength(raw)));
  if (answer.data.empty()) {
    const char* status = nullptr;
    answer.status_only = natsMsgHeader_Get(raw, "Status", &status) == NATS_OK;
  }
  return answer;
}

std::string RawNats::Ask(const std::string& subject, const std::string& body) {
  Send({.subject = subject, .headers = {}, .data = body}, 0);
  return Next().data;
}

void RawNats::Flush() { Check(natsConnection_FlushTimeout(impl_->connection, kPatienceMs), "flushing"); }

uint64_t SequenceOf(absl::string_view answer) {
  constexpr absl::string_view kField = "\"seq\":";
  const size_t place = answer.find(kField);
  if (place == absl::string_view::npos || answer.find("\"error\"") != absl::string_view::npos) return 0;
  uint64_t sequence = 0;
  for (const char c : answer.substr(place + kField.size())) {
    if (c < '0' || c > '9') break;
    sequence = sequence * 10 + static_cast<uint64_t>(c - '0');
  }
  return sequence;
}

void AddBatchHeaders(const std::string& batch_id, size_t position, bool last, jetstream::OutgoingMessage& message) {
  message.headers.Add("Nats-Batch-Id", batch_id);
  message.headers.Add("Nats-Batch-Sequence", absl::StrCat(position));
  if (last) message.headers.Add("Nats-Batch-Commit", "1");
}

void AddExpectedLast(const std::string& filter, uint64_t sequence, jetstream::OutgoingMessage& message) {
  message.headers.Add(kExpectedLast, absl::StrCat(sequence));
  message.headers.Add(kExpectedLastSubject, filter);
}

void BulkWriter::Add(jetstream::OutgoingMessage message) {
  if (batched_) {
    batch_.push_back(std::move(message));
    if (batch_.size() == kBatch) SendBatch();
    return;
  }
  if (in_flight_ == kBulkWindow) TakeAnswer();
  nats_->Send(message, 1);
  ++in_flight_;
}

void BulkWriter::SendBatch() {
  const std::string id = base::NewUuidV7(base::Clock::System().WallNow());
  for (size_t i = 0; i < batch_.size(); ++i) {
    const bool last = i + 1 == batch_.size();
    if (batch_.size() > 1) AddBatchHeaders(id, i + 1, last, batch_[i]);
    nats_->Send(batch_[i], last ? 1 : RawNats::kNoReply);
  }
  batch_.clear();
  ++in_flight_;
  TakeAnswer();
}

void BulkWriter::TakeAnswer() {
  const RawNats::Answer answer = nats_->Next();
  --in_flight_;
  last_sequence_ = SequenceOf(answer.data);
  if (last_sequence_ == 0) throw std::runtime_error("storing in bulk: " + answer.data);
}

uint64_t BulkWriter::Finish() {
  if (!batch_.empty()) SendBatch();
  while (in_flight_ > 0) TakeAnswer();
  return last_sequence_;
}

}  // namespace persistd::bench

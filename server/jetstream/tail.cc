#include "server/jetstream/tail.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/base/logging.h"
#include "server/base/rfc3339.h"
#include "server/base/status_macros.h"
#include "server/base/uuid.h"
#include "server/jetstream/api.h"

namespace persistd::jetstream {
namespace {

using nlohmann::json;

constexpr std::chrono::seconds kApiPatience{5};
constexpr std::chrono::milliseconds kRetryWait{250};
constexpr std::chrono::seconds kGoneWait{2};
constexpr int kMissedHeartbeats = 3;
// A stream in use is asked for what came in this time at once: messages that come one by one cost their server, and us,
// several times as much, which the saves that make them would feel.
constexpr std::chrono::milliseconds kRest{20};
constexpr uint64_t kTooManyToRest = 64;
// Of one pull. A message without its body has at most 64 KiB of headers, so this never stops a pull from beginning.
constexpr uint64_t kMaxPullBytes = 1 << 20;

base::SteadyTime Now() { return base::Clock::System().SteadyNow(); }

int64_t Nanoseconds(std::chrono::milliseconds time) { return std::chrono::nanoseconds(time).count(); }

}  // namespace

uint64_t Fingerprint(const Message& message) {
  // FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/), which never changes: it is stored.
  uint64_t hash = 0xcbf29ce484222325;
  const auto mix = [&hash](absl::string_view text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    hash = (hash ^ 0) * 0x100000001b3;
  };
  mix(message.subject);
  for (const char* name : {"ce-id", "ce-commitid"}) {
    const std::string* value = message.headers.Find(name);
    mix(value == nullptr ? absl::string_view() : absl::string_view(*value));
  }
  mix(absl::AlphaNum(message.time.time_since_epoch().count()).Piece());
  return hash;
}

std::shared_ptr<Tail> Tail::Create(Options options, Connection* connection, base::Executor* executor, TailSink* sink) {
  return std::shared_ptr<Tail>(new Tail(std::move(options), connection, executor, sink));
}

Tail::Tail(Options options, Connection* connection, base::Executor* executor, TailSink* sink)
    : options_(std::move(options)),
      connection_(connection),
      executor_(executor),
      sink_(sink),
      unique_(absl::StrReplaceAll(base::NewUuidV7(base::Clock::System().WallNow()), {{"-", ""}})) {}

void Tail::Start() { base::Spawn(Run(shared_from_this())); }

void Tail::Stop() {
  {
    base::MutexLock lock(mutex_);
    stopping_ = true;
  }
  Break(absl::CancelledError("stopped"));
  base::MutexLock lock(mutex_);
  while (!ended_) ended_changed_.Wait(mutex_);
}

bool Tail::stopping() const {
  base::MutexLock lock(mutex_);
  return stopping_;
}

uint64_t Tail::pending() const {
  base::MutexLock lock(mutex_);
  return pending_;
}

base::Task<void> Tail::Run(std::shared_ptr<Tail> /*keeps_alive*/) {
  while (!stopping() && !connection_->closed()) {
    absl::Status status = connection_->status();
    if (status.ok()) {
      status = co_await Establish();
      if (status.ok()) {
        base::Promise<absl::Status> promise;
        bool stopped;
        {
          base::MutexLock lock(mutex_);
          promise = broken_promise_;
          stopped = stopping_;
        }
        // A Stop that came before there was a consumer to break has broken none: nobody would end this wait.
        status = absl::CancelledError("stopped");
        if (!stopped) status = co_await promise.future();
        if (!stopping() && !absl::IsCancelled(status)) {
          base::LogInfo("tail begins again", {{"stream", options_.stream}, {"reason", status}});
        }
      } else if (!absl::IsNotFound(status) && !stopping() && connection_->status().ok()) {
        base::LogWarn("stream cannot be followed", {{"stream", options_.stream}, {"reason", status}});
      }
      Break(status);  // Leaves nothing of a consumer that was half made.
    }
    if (stopping()) break;
    const base::SteadyTime again = Now() + (absl::IsNotFound(status) ? kGoneWait : kRetryWait);
    while (!stopping() && !connection_->closed() && Now() < again) {
      const base::SteadyTime until = std::min(again, Now() + kRetryWait);
      co_await executor_->Sleep(until);
    }
  }
  base::MutexLock lock(mutex_);
  ended_ = true;
  ended_changed_.NotifyAll();
}

void Tail::Reset(uint64_t incarnation) {
  {
    base::MutexLock lock(mutex_);
    position_ = {.incarnation = incarnation, .sequence = 0, .fingerprint = 0};
  }
  sink_->OnReset(options_.stream, incarnation);
}

base::Task<absl::Status> Tail::Establish() {
  absl::StatusOr<ApiAnswer> info =
      co_await CallApi(*connection_, absl::StrCat("$JS.API.STREAM.INFO.", options_.stream), "", Now() + kApiPatience);
  if (!info.ok()) co_return info.status();
  if (info->error.has_value()) {
    if (info->error->err_code != kErrStreamNotFound) co_return absl::UnavailableError(info->error->ToString());
    bool told;
    {
      base::MutexLock lock(mutex_);
      told = std::exchange(gone_, true);
      pending_ = 0;
      position_ = {};  // Whatever comes back is read from its beginning.
    }
    if (!told) sink_->OnGone(options_.stream);
    co_return absl::NotFoundError("there is no such stream");
  }
  const std::optional<base::WallTime> created = base::ParseRfc3339(StringField(info->body, "created"));
  if (!created.has_value()) co_return absl::UnavailableError("NATS does not tell when the stream was created");
  const auto incarnation = static_cast<uint64_t>(created->time_since_epoch().count());
  const uint64_t last = UnsignedField(ObjectField(info->body, "state"), "last_seq");
  bool begun;
  {
    base::MutexLock lock(mutex_);
    gone_ = false;
    begun = std::exchange(begun_, true);
  }
  if (!begun) {
    const std::optional<TailPosition> start = sink_->StartOf(options_.stream);
    base::MutexLock lock(mutex_);
    position_ = start.value_or(TailPosition{.incarnation = incarnation, .sequence = last, .fingerprint = 0});
  }
  TailPosition position;
  {
    base::MutexLock lock(mutex_);
    position = position_;
  }
  if (position.incarnation != incarnation || position.sequence > last) {
    if (position.incarnation != 0) {
      base::LogWarn("stream is not the one that was read: it is read again from its beginning",
                    {{"stream", options_.stream}, {"read", position.sequence}, {"last", last}});
    }
    Reset(incarnation);
    position.sequence = 0;
  }
  // The message read last comes once more, so that it can be compared.
  co_return co_await CreateConsumer(std::max<uint64_t>(1, position.sequence));
}

base::Task<absl::Status> Tail::CreateConsumer(uint64_t start) {
  uint64_t generation;
  {
    base::MutexLock lock(mutex_);
    generation = ++generation_;
  }
  Connection::Channel channel;
  channel.on_message = [self = shared_from_this(), generation](Message message) {
    self->OnMessage(generation, std::move(message));
  };
  channel.on_lost = [self = shared_from_this()] { self->Break(absl::UnavailableError("the connection is lost")); };
  CO_ASSIGN_OR_RETURN(const uint64_t number, connection_->OpenChannel(std::move(channel)));
  const std::string name = DeliveryName(absl::StrCat(unique_, "g", generation), number);
  {
    base::MutexLock lock(mutex_);
    channel_ = number;
    consumer_ = name;
    consumer_sequence_ = 0;
    asked_ = 0;
    resting_ = false;
    broken_ = false;
    broken_promise_ = {};
    heard_ = Now();
  }
  const json request = {{"stream_name", options_.stream},
                        {"config",
                         {{"name", name},
                          {"description", "tail of persistd"},
                          {"deliver_policy", "by_start_sequence"},
                          {"opt_start_seq", start},
                          {"ack_policy", "none"},
                          {"replay_policy", "instant"},
                          {"headers_only", true},
                          {"mem_storage", true},
                          {"num_replicas", 1},
                          {"inactive_threshold", Nanoseconds(options_.heartbeat * kMissedHeartbeats * 2)}}}};
  const std::string subject = absl::StrCat("$JS.API.CONSUMER.CREATE.", options_.stream, ".", name);
  const std::string body = request.dump();
  CO_ASSIGN_OR_RETURN(const ApiAnswer answer, co_await CallApi(*connection_, subject, body, Now() + kApiPatience));
  if (answer.error.has_value()) co_return absl::UnavailableError(answer.error->ToString());
  const uint64_t to_come = UnsignedField(answer.body, "num_pending");
  {
    base::MutexLock lock(mutex_);
    pending_ = to_come;
    heard_ = Now();
  }
  if (to_come == 0) sink_->OnCaughtUp(options_.stream);
  Watch(generation);
  PullIfRoom();
  co_return absl::OkStatus();
}

// Ends the consumer in use, which makes Run begin again.
void Tail::Break(absl::Status why) {
  uint64_t channel;
  std::string consumer;
  base::Promise<absl::Status> promise;
  {
    base::MutexLock lock(mutex_);
    if (std::exchange(broken_, true)) return;
    ++generation_;
    channel = channel_;
    consumer = std::move(consumer_);
    promise = broken_promise_;
  }
  // Nobody waits for the answer: the server removes an unused consumer by itself, later.
  OutgoingMessage remove;
  remove.subject = absl::StrCat("$JS.API.CONSUMER.DELETE.", options_.stream, ".", consumer);
  connection_->Send(remove, channel).IgnoreError();
  connection_->CloseChannel(channel);
  // Not on this stack, which may be inside the handler of a message.
  executor_->Post([promise, why] { promise.TrySet(why); });
}

void Tail::Watch(uint64_t generation) {
  executor_->RunAt(Now() + options_.heartbeat, [self = shared_from_this(), generation] {
    bool silent;
    {
      base::MutexLock lock(self->mutex_);
      if (self->generation_ != generation) return;
      // While the sink is busy nothing is asked for, so nothing comes.
      silent = self->asked_ > 0 && Now() - self->heard_ > self->options_.heartbeat * kMissedHeartbeats;
    }
    if (silent) {
      self->Break(absl::UnavailableError("the consumer is silent"));
    } else {
      self->Watch(generation);
    }
  });
}

void Tail::PullIfRoom() {
  OutgoingMessage pull;
  uint64_t channel;
  {
    base::MutexLock lock(mutex_);
    if (broken_ || resting_ || asked_ > 0 || undone_ > options_.window / 2) return;
    // No more than are known to be there: the last of them tells how many have come meanwhile.
    asked_ = std::clamp<uint64_t>(pending_, 1, std::max<uint64_t>(1, options_.window / 2));
    channel = channel_;
    heard_ = Now();
    pull.subject = absl::StrCat("$JS.API.CONSUMER.MSG.NEXT.", options_.stream, ".", consumer_);
    pull.data = absl::StrCat("{\"batch\":", asked_, ",\"max_bytes\":", kMaxPullBytes,
                             ",\"expires\":", Nanoseconds(options_.heartbeat * 6),
                             ",\"idle_heartbeat\":", Nanoseconds(options_.heartbeat), "}");
  }
  if (absl::Status sent = connection_->Send(pull, channel); !sent.ok()) Break(sent);
}

void Tail::Rest(uint64_t generation) {
  executor_->RunAt(Now() + kRest, [self = shared_from_this(), generation] {
    {
      base::MutexLock lock(self->mutex_);
      if (self->generation_ != generation) return;
      self->resting_ = false;
    }
    self->PullIfRoom();
  });
}

void Tail::Done(uint64_t count) {
  {
    base::MutexLock lock(mutex_);
    undone_ -= std::min(undone_, count);
  }
  PullIfRoom();
}

void Tail::BeginAgain() {
  {
    base::MutexLock lock(mutex_);
    begun_ = false;
  }
  Break(absl::AbortedError("the reader asked for it"));
}

void Tail::OnMessage(uint64_t generation, Message message) {
  {
    base::MutexLock lock(mutex_);
    if (generation != generation_) return;
    heard_ = Now();
  }
  const std::optional<Delivery> delivery = ParseDelivery(message.reply);
  if (delivery.has_value()) {
    TakeDelivery(std::move(message), *delivery);
    return;
  }
  if (const std::string* status = message.headers.Find("Status")) OnStatus(*status, message);
}

void Tail::OnStatus(const std::string& status, const Message& message) {
  if (status == "100") return;  // A heartbeat.
  const std::string* text = message.headers.Find("Description");
  const absl::string_view description = text == nullptr ? absl::string_view() : absl::string_view(*text);
  if (status == "409" && absl::StrContains(description, "Batch Completed")) return;
  if (status == "408" || (status == "409" && absl::StrContains(description, "MaxBytes"))) {
    {
      base::MutexLock lock(mutex_);
      asked_ = 0;  // This pull is over.
    }
    PullIfRoom();
    return;
  }
  Break(absl::UnavailableError(absl::StrCat("NATS says ", status, " ", description)));
}

void Tail::TakeDelivery(Message message, const Delivery& delivery) {
  message.sequence = delivery.stream_sequence;
  message.time = base::WallTime(std::chrono::nanoseconds(delivery.time_ns));
  message.reply.clear();
  const uint64_t fingerprint = Fingerprint(message);
  enum class Kind { kNew, kOld, kGap, kOther };
  Kind kind = Kind::kNew;
  uint64_t incarnation;
  uint64_t generation;
  bool rests;
  {
    base::MutexLock lock(mutex_);
    if (asked_ > 0) --asked_;
    incarnation = position_.incarnation;
    if (delivery.consumer_sequence != ++consumer_sequence_) {
      kind = Kind::kGap;
    } else if (consumer_sequence_ == 1 && position_.fingerprint != 0 && message.sequence > position_.sequence) {
      kind = Kind::kOther;  // What was read last is not there any more, so nothing tells that the rest is the same.
    } else if (message.sequence < position_.sequence) {
      kind = Kind::kOld;  // A replica that is behind begins where its end is.
    } else if (message.sequence == position_.sequence) {
      const bool same = position_.fingerprint == 0 || position_.fingerprint == fingerprint;
      kind = same ? Kind::kOld : Kind::kOther;
    } else {
      position_.sequence = message.sequence;
      position_.fingerprint = fingerprint;
      ++undone_;
    }
    pending_ = delivery.pending;
    generation = generation_;
    rests = asked_ == 0 && !resting_ && pending_ < kTooManyToRest;
    resting_ |= rests;
  }
  switch (kind) {
    case Kind::kNew:
      sink_->OnMessage(options_.stream, std::move(message), delivery.pending);
      break;
    case Kind::kOld:
      if (delivery.pending == 0) sink_->OnCaughtUp(options_.stream);
      break;
    case Kind::kGap:
      Break(absl::UnavailableError("messages of the consumer were lost on their way"));
      return;
    case Kind::kOther:
      base::LogWarn("stream does not hold what was read of it (data was lost or restored): it is read again",
                    {{"stream", options_.stream}, {"sequence", message.sequence}});
      Reset(incarnation);
      Break(absl::AbortedError("the stream is read again"));
      return;
  }
  if (rests) {
    Rest(generation);
  } else {
    PullIfRoom();
  }
}

}  // namespace persistd::jetstream

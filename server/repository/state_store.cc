#include "server/repository/state_store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/logging.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/ipld/cid.h"
#include "server/jetstream/api.h"
#include "server/jetstream/event_codec.h"
#include "server/repository/retry.h"

namespace persistd::repository {

using jetstream::Message;
using jetstream::PublishOutcome;
using jetstream::StreamPtr;

namespace {

constexpr size_t kPlaceBytes = 250;  // About what an entry takes, with its key.

// CORRUPT_DATA when the content of a state is not what its CID says.
absl::Status CheckContent(const jetstream::Stream& stream, const domain::StateRecord& state) {
  if (state.cid.empty()) return absl::OkStatus();
  std::string actual = ipld::RawCid(state.payload.data).ToString();
  if (actual == state.cid) return absl::OkStatus();
  return domain::CorruptData(stream.name, state.sequence, "the state does not match its CID",
                             {.expected = state.cid, .actual = std::move(actual)});
}

}  // namespace

absl::StatusOr<std::optional<domain::StateRecord>> StateStore::Decode(const jetstream::Stream& stream,
                                                                      std::optional<Message> message) const {
  if (!message.has_value()) return std::optional<domain::StateRecord>();
  const uint64_t sequence = message->sequence;
  if (!jetstream::IsOurs(*message)) {
    history_->NoteForeign(stream, *message);
    return std::optional<domain::StateRecord>();
  }
  absl::StatusOr<domain::StateRecord> state = jetstream::DecodeState(*std::move(message));
  if (!state.ok()) return domain::CorruptData(stream.name, sequence, state.status().message());
  if (!state->chunks.has_value()) RETURN_IF_ERROR(CheckContent(stream, *state));
  return std::optional<domain::StateRecord>(*std::move(state));
}

base::Task<absl::Status> StateStore::Fill(domain::StateRecord& state, const jetstream::Stream& stream,
                                          base::SteadyTime deadline) {
  if (!state.chunks.has_value()) co_return absl::OkStatus();
  CO_RETURN_IF_ERROR(co_await blocks_->Fill(state, stream.name, deadline));
  co_return CheckContent(stream, state);
}

base::Task<absl::StatusOr<StateStore::Existing>> StateStore::ReadExisting(domain::AggregateRef ref, StreamPtr stream,
                                                                          jetstream::ReadFrom from,
                                                                          base::SteadyTime deadline) {
  CO_ASSIGN_OR_RETURN(std::optional<Message> message,
                      co_await storage_->reader().Last(stream->name, domain::StateFilter(ref), from, deadline));
  Existing existing;
  if (!message.has_value()) co_return existing;
  existing.sequence = message->sequence;
  absl::StatusOr<std::optional<domain::StateRecord>> state = Decode(*stream, std::move(message));
  if (state.ok()) {
    existing.state = *std::move(state);
    if (existing.state.has_value()) existing.schema_version = existing.state->schema_version;
  } else {
    base::LogError("a stored state cannot be read and is replaced", {{"error", state.status()}});
  }
  co_return existing;
}

base::Task<absl::StatusOr<bool>> StateStore::IsNewer(domain::StateRecord existing, domain::StateRecord state,
                                                     base::SteadyTime deadline) {
  if (existing.version <= state.version) co_return false;
  // Newer, unless the events that it is the state of are gone.
  CO_ASSIGN_OR_RETURN(StreamPtr events, co_await storage_->FindEvents(state.ref, deadline));
  if (events == nullptr) co_return false;
  CO_ASSIGN_OR_RETURN(Head head, co_await history_->ReadHead(state.ref, events, Absence::kVerify, deadline));
  co_return head.version >= existing.version;
}

base::Task<absl::StatusOr<StateResult>> StateStore::Write(domain::StateRecord state, bool fresh,
                                                          base::SteadyTime deadline) {
  // What is too large for a message goes into blocks first, then the state that lists them.
  Blocks::Spilled spilled;
  if (Blocks::IsLarge(state)) {
    absl::StatusOr<Blocks::Spilled> stored = co_await blocks_->Spill(state, deadline);
    if (!stored.ok()) {
      base::LogWarn("state not written: its blocks could not be stored", {{"error", stored.status()}});
      co_return StateResult::kPending;
    }
    spilled = *std::move(stored);
  }
  const jetstream::OutgoingMessage message = jetstream::EncodeState(state);
  const std::string filter = domain::StateFilter(state.ref);
  Backoff backoff;
  bool existing_known = fresh;
  Existing existing;
  jetstream::ReadFrom from = jetstream::ReadFrom::kAnyReplica;  // Who is behind is found out by the publish.
  absl::Status last_error;
  while (base::Clock::System().SteadyNow() < deadline && !storage_->writes().closed()) {
    absl::StatusOr<StreamPtr> stream = co_await storage_->CreateState(state.ref, deadline);
    if (stream.ok() && !existing_known && from == jetstream::ReadFrom::kAnyReplica) {
      const std::optional<Place> place = places_.Get(state.ref);
      existing_known = place.has_value() && place->stream == *stream && place->version < state.version;
      if (existing_known) {
        existing = {.sequence = place->sequence, .schema_version = place->schema_version, .state = std::nullopt};
      }
    }
    if (stream.ok() && !existing_known) {
      absl::StatusOr<Existing> read = co_await ReadExisting(state.ref, *stream, from, deadline);
      if (read.ok()) {
        existing = *std::move(read);
        existing_known = true;
      } else {
        last_error = read.status();
        storage_->Forget(**stream);
      }
    }
    if (!stream.ok()) last_error = stream.status();
    if (stream.ok() && existing_known) {
      if (existing.state.has_value()) {
        absl::StatusOr<bool> newer = co_await IsNewer(*existing.state, state, deadline);
        if (newer.ok() && *newer) co_return StateResult::kSuperseded;
        if (!newer.ok()) {
          last_error = newer.status();
          break;
        }
        // Written by an earlier attempt of this save.
        if (existing.state->version == state.version && existing.state->commit_id == state.commit_id) {
          if (existing.state->payload != state.payload || existing.state->chunks != state.chunks ||
              existing.state->schema_version != state.schema_version) {
            co_return domain::RequestIdReused(state.ref, state.commit_id, "the state differs");
          }
          co_return co_await BlocksKept(spilled, deadline);
        }
      }
      if (spilled.any()) {
        last_error = co_await blocks_->Renew(spilled, deadline);
        if (!last_error.ok()) break;
      }
      auto unit = std::make_shared<CommitUnit>();
      unit->checks.push_back({.filter = filter, .last_sequence = existing.sequence});
      unit->messages.push_back(message);
      jetstream::AddCheck(unit->checks.front(), unit->messages.front());
      const PublishOutcome outcome =
          co_await storage_->committer().Commit(*stream, std::move(unit), AttemptTime(backoff), deadline);
      if (outcome.kind == PublishOutcome::Kind::kStored) {
        places_.Put(state.ref,
                    {.stream = *stream,
                     .sequence = outcome.last_sequence,
                     .version = state.version,
                     .schema_version = state.schema_version},
                    kPlaceBytes);
        if (existing.schema_version != 0 && existing.schema_version != state.schema_version) {
          co_await RemovePreviousSchema(*stream, existing.sequence, deadline);
        }
        co_return co_await BlocksKept(spilled, deadline);
      }
      last_error = outcome.status;
      if (outcome.kind == PublishOutcome::Kind::kRefused) break;
      existing_known = false;
      places_.Erase(state.ref);
      from = jetstream::ReadFrom::kLeader;
      const bool unsent = outcome.kind == PublishOutcome::Kind::kNotStored;
      if (unsent && !absl::IsResourceExhausted(outcome.status)) storage_->Forget(**stream);
    }
    if (IsPermanent(last_error)) break;
    co_await executor_->Sleep(std::min(deadline, backoff.Next()));
  }
  base::LogWarn("state not written", {{"subject", message.subject}, {"version", state.version}, {"error", last_error}});
  co_return StateResult::kPending;
}

base::Task<StateResult> StateStore::BlocksKept(Blocks::Spilled& spilled, base::SteadyTime deadline) {
  if (!spilled.any()) co_return StateResult::kWritten;
  const absl::Status kept = co_await blocks_->Renew(spilled, deadline);
  if (kept.ok()) co_return StateResult::kWritten;
  base::LogWarn("it is not known whether the blocks of a state are still there", {{"error", kept}});
  co_return StateResult::kPending;
}

base::Task<void> StateStore::RemovePreviousSchema(StreamPtr stream, uint64_t sequence, base::SteadyTime deadline) {
  // If this fails the old message stays, superseded: a load takes the last one.
  std::string body = absl::StrCat("{\"seq\":", sequence, ",\"no_erase\":true}");
  absl::StatusOr<jetstream::ApiAnswer> answer = co_await jetstream::CallApi(
      storage_->writes(), absl::StrCat("$JS.API.STREAM.MSG.DELETE.", stream->name), std::move(body), deadline);
  if (!answer.ok() || answer->error.has_value()) {
    base::LogDebug("state of the previous schema not removed", {{"stream", stream->name}, {"sequence", sequence}});
  }
}

}  // namespace persistd::repository

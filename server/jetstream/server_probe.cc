#include "server/jetstream/server_probe.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/base/uuid.h"
#include "server/domain/errors.h"
#include "server/jetstream/api.h"
#include "server/jetstream/server_version.h"

namespace persistd::jetstream {
namespace {

using nlohmann::json;

constexpr std::chrono::milliseconds kAnswerTimeout{5000};
constexpr uint32_t kLeastApiLevel = 2;  // Of nats-server 2.12, which brought atomic batches.

absl::StatusOr<ApiAnswer> Call(RawConnection& connection, const std::string& subject, const std::string& body) {
  OutgoingMessage request;
  request.subject = subject;
  request.data = body;
  absl::StatusOr<Message> answer = connection.SyncRequest(request, kAnswerTimeout);
  if (absl::IsPermissionDenied(answer.status())) {
    return domain::StorageUnsuitable(
        absl::StrCat("the NATS user lacks a permission: ", answer.status().message(),
                     ". It needs to publish on $JS.API.> and cim.>, and to subscribe to _INBOX.>"));
  }
  if (!answer.ok()) {
    return domain::NatsUnavailable(absl::StrCat("asking NATS ", subject, ": ", answer.status().message()));
  }
  absl::StatusOr<ApiAnswer> parsed = ParseApiAnswer(answer->data);
  if (!parsed.ok()) return domain::NatsUnavailable(absl::StrCat(subject, ": ", parsed.status().message()));
  return parsed;
}

// A batch of two messages for two aggregates, each with its own check. Filters of equal length, as nats-server before
// 2.12.14 and 2.14.4 mixed those up.
absl::StatusOr<ApiAnswer> PublishPair(RawConnection& connection, const std::string& prefix, uint64_t expected_first,
                                      uint64_t expected_second) {
  const std::string batch_id = base::NewUuidV7(base::Clock::System().WallNow());
  const uint64_t expected[] = {expected_first, expected_second};
  for (int i = 0; i < 2; ++i) {
    const std::string entity = absl::StrCat(prefix, ".", i == 0 ? "a" : "b");
    OutgoingMessage message;
    message.subject = absl::StrCat(entity, ".x.v1");
    message.headers.Add("Nats-Batch-Id", batch_id);
    message.headers.Add("Nats-Batch-Sequence", absl::StrCat(i + 1));
    message.headers.Add("Nats-Expected-Last-Subject-Sequence", absl::StrCat(expected[i]));
    message.headers.Add("Nats-Expected-Last-Subject-Sequence-Subject", absl::StrCat(entity, ".>"));
    if (i == 0) {
      RETURN_IF_ERROR(connection.Publish(message, 0));
      continue;
    }
    message.headers.Add("Nats-Batch-Commit", "1");
    absl::StatusOr<Message> answer = connection.SyncRequest(message, kAnswerTimeout);
    if (absl::IsPermissionDenied(answer.status())) {
      return domain::StorageUnsuitable(absl::StrCat("the NATS user lacks a permission: ", answer.status().message(),
                                                    ". It needs to publish on $JS.API.> and cim.>"));
    }
    if (!answer.ok()) return answer.status();
    return ParseApiAnswer(answer->data);
  }
  return absl::InternalError("unreachable");
}

absl::Status ProbeError(const absl::Status& status) {
  if (domain::GetErrorDetail(status).has_value()) return status;
  return domain::NatsUnavailable(absl::StrCat("probing: ", status.message()));
}

absl::Status ProbeBatches(RawConnection& connection, const std::string& stream, const std::string& prefix) {
  const auto refuse = [](absl::string_view what) {
    return domain::StorageUnsuitable(
        absl::StrCat("the NATS server failed the probe of atomic batches: ", what,
                     "; it would store half a save. Install nats-server 2.12.14 or newer (2.14.4 on 2.14)"));
  };
  absl::StatusOr<ApiAnswer> first = PublishPair(connection, prefix, 0, 0);
  if (!first.ok()) return ProbeError(first.status());
  if (first->error.has_value()) return refuse(first->error->ToString());
  if (UnsignedField(first->body, "seq") != 2 || UnsignedField(first->body, "count") != 2) {
    return refuse("a batch of two was not stored as one");
  }
  // The second check is stale (b's last sequence is 2), so neither message may be stored.
  absl::StatusOr<ApiAnswer> stale = PublishPair(connection, prefix, 1, 1);
  if (!stale.ok()) return ProbeError(stale.status());
  if (!stale->error.has_value() || stale->error->err_code != kErrWrongLastSequence) {
    return refuse("a batch with a stale check was not refused");
  }
  ASSIGN_OR_RETURN(const ApiAnswer info, Call(connection, absl::StrCat("$JS.API.STREAM.INFO.", stream), ""));
  if (UnsignedField(ObjectField(info.body, "state"), "messages") != 2) return refuse("a refused batch was stored");
  absl::StatusOr<ApiAnswer> fresh = PublishPair(connection, prefix, 1, 2);
  if (!fresh.ok()) return ProbeError(fresh.status());
  if (fresh->error.has_value()) return refuse("two correct checks in one batch were refused");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ServerFacts> ProbeServer(RawConnection& connection) {
  ServerFacts facts;
  ASSIGN_OR_RETURN(const ApiAnswer account, Call(connection, "$JS.API.INFO", ""));
  if (account.error.has_value()) {
    return domain::StorageUnsuitable(absl::StrCat("JetStream is not usable: ", account.error->ToString()));
  }
  facts.api_level = static_cast<uint32_t>(UnsignedField(ObjectField(account.body, "api"), "level"));
  if (facts.api_level < kLeastApiLevel) {
    // Servers tell their version only since they have levels.
    return domain::StorageUnsuitable(
        absl::StrCat("the NATS server is nats-server ", facts.api_level == 0 ? "2.10 or older" : "2.11",
                     " (JetStream API level ", facts.api_level, "), too old: install nats-server 2.12.14 or newer"));
  }
  const std::string id = base::NewUuidV7(base::Clock::System().WallNow());
  const std::string stream = absl::StrCat("persistd_probe_", id);
  const std::string prefix = absl::StrCat("cim._probe.", id);
  const json config = {{"name", stream},
                       {"subjects", {prefix + ".>"}},
                       {"storage", "memory"},
                       {"retention", "limits"},
                       {"allow_atomic", true},
                       {"max_msgs", 16},
                       {"max_age", 60'000'000'000},
                       {"num_replicas", 1}};
  ASSIGN_OR_RETURN(const ApiAnswer created,
                   Call(connection, absl::StrCat("$JS.API.STREAM.CREATE.", stream), config.dump()));
  if (created.error.has_value()) {
    if (created.error->code == 503) return domain::NatsUnavailable(created.error->ToString());
    return domain::StorageUnsuitable(
        absl::StrCat("the NATS server refused a stream with atomic batches: ", created.error->ToString()));
  }
  facts.version = StringField(ObjectField(ObjectField(created.body, "config"), "metadata"), "_nats.ver");
  facts.name = StringField(ObjectField(created.body, "cluster"), "leader");
  absl::Status suitable = CheckServerVersion(facts.version);
  if (!suitable.ok()) {
    suitable = domain::StorageUnsuitable(suitable.message());
  } else {
    suitable = ProbeBatches(connection, stream, prefix);
  }
  // If this fails a small stream stays behind, empty after max_age; the connection will show the reason soon enough.
  Call(connection, absl::StrCat("$JS.API.STREAM.DELETE.", stream), "").IgnoreError();
  RETURN_IF_ERROR(suitable);
  return facts;
}

}  // namespace persistd::jetstream

#include "server/repository/event_fold.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/rfc3339.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"

namespace persistd::repository {
namespace {

// README.md of transform/ names these: the time limit holds for each part.
constexpr size_t kMaxPartEvents = 512;
constexpr size_t kMaxPartBytes = 1u << 20;

std::string FieldsOf(const domain::RecordedEvent& event) {
  nlohmann::json metadata = nlohmann::json::object();
  const auto add = [&metadata](const char* name, const std::string& value) {
    if (!value.empty()) metadata[name] = value;
  };
  add("correlation_id", event.metadata.correlation_id);
  add("causation_id", event.metadata.causation_id);
  add("actor", event.metadata.actor);
  add("traceparent", event.metadata.traceparent);
  if (!event.metadata.custom.empty()) metadata["custom"] = event.metadata.custom;
  const nlohmann::json fields = {{"type", event.type},
                                 {"version", event.version},
                                 {"schema_version", event.schema_version},
                                 {"metadata", std::move(metadata)},
                                 {"time", base::FormatRfc3339(event.time)},
                                 {"recorded_time", base::FormatRfc3339(event.recorded_time)},
                                 {"event_id", event.event_id},
                                 {"entity_id", event.ref.entity_id}};
  // Ids and the like are checked to be UTF-8 when they are saved; what was not written by us must not end the daemon.
  return fields.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string NotJson(const std::string& content_type) {
  return absl::StrCat("has the content type \"", absl::CHexEscape(content_type), "\"; a fold reads only JSON");
}

}  // namespace

bool IsJson(const std::string& content_type) {
  absl::string_view type = content_type;
  type = absl::StripAsciiWhitespace(type.substr(0, type.find(';')));
  return absl::EqualsIgnoreCase(type, "application/json") || absl::EqualsIgnoreCase(type, "text/json") ||
         absl::EndsWithIgnoreCase(type, "+json");
}

bool IsJsonState(const domain::Payload& payload) {
  return IsJson(payload.content_type) && nlohmann::json::accept(payload.data);
}

absl::Status EventFold::StartFrom(const domain::StateRecord& state) {
  if (!IsJson(state.payload.content_type)) {
    return domain::TransformFailed(
        ref_, absl::StrCat("the state of version ", state.version, " ", NotJson(state.payload.content_type)));
  }
  state_ = state.payload.data;
  return absl::OkStatus();
}

base::Task<absl::Status> EventFold::Add(const domain::RecordedEvent& event, base::SteadyTime deadline) {
  if (event.type == domain::kDeletedType) {
    // What was before is gone; what comes now starts anew.
    waiting_.clear();
    waiting_bytes_ = 0;
    state_.clear();
    co_return absl::OkStatus();
  }
  const domain::Payload& payload = event.payload;
  if (!payload.data.empty() && !IsJson(payload.content_type)) {
    co_return domain::TransformFailed(
        ref_, absl::StrCat("folding version ", event.version, ": its data ", NotJson(payload.content_type)));
  }
  transform::FoldInput input{.fields = FieldsOf(event), .data = payload.data};
  if (waiting_.empty()) first_waiting_ = event.version;
  waiting_bytes_ += input.fields.size() + input.data.size();
  waiting_.push_back(std::move(input));
  if (waiting_.size() < kMaxPartEvents && waiting_bytes_ < kMaxPartBytes) co_return absl::OkStatus();
  co_return co_await Flush(deadline);
}

base::Task<absl::Status> EventFold::Flush(base::SteadyTime deadline) {
  if (waiting_.empty()) co_return absl::OkStatus();
  const uint64_t last = first_waiting_ + waiting_.size() - 1;
  waiting_bytes_ = 0;
  std::vector<transform::FoldInput> part = std::exchange(waiting_, {});
  transform::FoldOutput output =
      co_await runner_.Fold(rules_.fold, std::exchange(state_, ""), std::move(part), deadline);
  if (output.status.ok()) {
    state_ = std::move(output.state);
    co_return absl::OkStatus();
  }
  if (absl::IsUnavailable(output.status) || absl::IsDeadlineExceeded(output.status)) {
    co_return domain::Overloaded(absl::StrCat("the fold could not run: ", output.status.message()));
  }
  // Past the last event means that it was the final state that failed.
  std::string which = absl::StrCat("folding versions ", first_waiting_, " to ", last);
  if (output.failed.has_value()) {
    which = absl::StrCat("folding version ", std::min(first_waiting_ + *output.failed, last));
  }
  co_return domain::TransformFailed(ref_, absl::StrCat(which, ": ", output.status.message()));
}

base::Task<absl::StatusOr<domain::Payload>> EventFold::Finish(base::SteadyTime deadline) {
  CO_RETURN_IF_ERROR(co_await Flush(deadline));
  co_return domain::Payload{.content_type = "application/json", .data = state_.empty() ? "null" : std::move(state_)};
}

}  // namespace persistd::repository

#include "tests/fault/audit.h"

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

namespace persistd::fault {
namespace {

namespace pb = cim::persistence::v1;

// One pass over one aggregate.
class Auditor {
 public:
  Auditor(const client::Client& client, const pb::AggregateRef& ref, const std::vector<SaveRecord>& records)
      : client_(client), ref_(ref) {
    for (const SaveRecord& record : records) records_.emplace(record.request_id, &record);
  }

  Audit Run() {
    ReadHistory();
    CheckSaves();
    CheckLoad();
    return std::move(audit_);
  }

 private:
  template <typename... Parts>
  void Problem(const Parts&... parts) {
    audit_.problems.push_back(absl::StrCat(ref_.entity_id(), ": ", parts...));
  }

  void ReadHistory() {
    pb::GetHistoryRequest request;
    *request.mutable_ref() = ref_;
    client::HistoryReader reader = client_.History(std::move(request));
    while (true) {
      absl::StatusOr<std::optional<pb::RecordedEvent>> event = reader.Next();
      if (!event.ok()) {
        // An aggregate that nobody saved to has no history.
        if (!absl::IsNotFound(event.status())) Problem("history: ", event.status().ToString());
        return;
      }
      if (!event->has_value()) return;
      absl::StrAppend(&audit_.history, (*event)->SerializeAsString());
      events_.push_back(**std::move(event));
      if (events_.back().version() != events_.size()) {
        Problem("history has version ", events_.back().version(), " in place ", events_.size());
      }
    }
  }

  void CheckSaves() {
    std::set<std::string> seen;
    for (size_t i = 0; i < events_.size();) {
      const std::string id = events_[i].commit_id();
      const auto found = records_.find(id);
      if (!seen.insert(id).second) Problem("save ", id, " is stored twice or in pieces");
      if (found == records_.end() || !found->second->answer.has_value()) {
        Problem("save ", id,
                found == records_.end() ? " is stored, but nobody asked for it" : " is stored, but was refused");
        while (i < events_.size() && events_[i].commit_id() == id) ++i;
        continue;
      }
      i = CheckSave(*found->second, i);
    }
    for (const auto& [id, record] : records_) {
      if (record->answer.has_value() && !seen.contains(id)) {
        Problem("save ", id, " was acknowledged as version ", record->answer->metadata().version(), " but is lost");
      }
    }
  }

  // Returns where the next save begins.
  size_t CheckSave(const SaveRecord& record, size_t begin) {
    const int count = record.events;
    for (int i = 0; i < count; ++i) {
      const size_t at = begin + static_cast<size_t>(i);
      if (at >= events_.size() || events_[at].commit_id() != record.request_id) {
        Problem("save ", record.request_id, " has only ", i, " of ", count, " events");
        return at;
      }
      const pb::RecordedEvent& event = events_[at];
      const pb::SavedEvent& told = record.answer->events(i);
      if (event.payload().data() != EventText(record.request_id, i, count)) {
        Problem("save ", record.request_id, " has other or unordered events");
      }
      if (told.version() != event.version() || told.position().token() != event.position().token() ||
          told.event_id() != event.event_id()) {
        Problem("save ", record.request_id, " was acknowledged as version ", told.version(), ", id ", told.event_id(),
                ", position ", told.position().token(), "; stored are version ", event.version(), ", id ",
                event.event_id(), ", position ", event.position().token());
      }
    }
    if (record.with_state) state_of_ = &record;
    return begin + static_cast<size_t>(count);
  }

  void CheckLoad() {
    if (events_.empty()) return;
    const absl::StatusOr<pb::LoadResponse> loaded = client_.Load(ref_);
    if (!loaded.ok()) return Problem("load: ", loaded.status().ToString());
    if (loaded->metadata().version() != events_.size()) Problem("load has version ", loaded->metadata().version());
    uint64_t version = 0;
    if (state_of_ != nullptr) {
      version = state_of_->answer->metadata().version();
      if (loaded->state().version() != version ||
          loaded->state().payload().data() != StateText(state_of_->request_id)) {
        Problem("the state is that of version ", loaded->state().version(), ", not that of ", version);
        return;
      }
    } else if (loaded->has_state()) {
      Problem("has a state that nobody saved");
    }
    for (const pb::RecordedEvent& event : loaded->events()) {
      if (event.version() != ++version || event.SerializeAsString() != events_[version - 1].SerializeAsString()) {
        return Problem("load and history differ at version ", version);
      }
    }
    if (version != events_.size()) Problem("load ends at version ", version);
  }

  const client::Client& client_;
  const pb::AggregateRef& ref_;
  std::map<std::string, const SaveRecord*> records_;
  std::vector<pb::RecordedEvent> events_;
  const SaveRecord* state_of_ = nullptr;  // The last save stored that had a state.
  Audit audit_;
};

}  // namespace

std::string EventText(const std::string& request_id, int index, int count) {
  return absl::StrCat("{\"save\":\"", request_id, "\",\"event\":", index, ",\"of\":", count, "}");
}

std::string StateText(const std::string& request_id) { return absl::StrCat("{\"after\":\"", request_id, "\"}"); }

Audit AuditAggregate(const client::Client& client, const pb::AggregateRef& ref,
                     const std::vector<SaveRecord>& records) {
  return Auditor(client, ref, records).Run();
}

}  // namespace persistd::fault

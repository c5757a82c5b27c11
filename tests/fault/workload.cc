#include "tests/fault/workload.h"

#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/fault/audit.h"
#include "tests/testing/must.h"

namespace persistd::fault {

namespace pb = cim::persistence::v1;
using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;
using testing::Must;

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  // 0 to below - 1.
  size_t Below(size_t below) { return std::uniform_int_distribution<size_t>(0, below - 1)(engine_); }
  bool OneIn(size_t n) { return Below(n) == 0; }

 private:
  std::mt19937_64 engine_;
};

namespace {

// `patience`: how long a client repeats a call by itself.
std::vector<client::Client> ConnectAll(const WorkloadOptions& options, std::chrono::milliseconds patience) {
  std::vector<client::Client> clients;
  for (const std::string& address : options.addresses) {
    client::Options to;
    to.address = address;
    to.default_timeout = options.call_timeout;
    to.retry.max_elapsed = patience;
    clients.push_back(Must(client::Client::Connect(std::move(to))));
  }
  return clients;
}

// What is wrong with an acknowledgement, whatever is stored.
std::string Objection(const SaveRecord& record, const pb::SaveRequest& request, const pb::SaveResponse& answer,
                      uint64_t acknowledged_before, int replicas) {
  const auto& events = answer.events();
  if (events.size() != record.events) return absl::StrCat("answers ", events.size(), " events, not ", record.events);
  for (int i = 1; i < events.size(); ++i) {
    if (events[i].version() != events[0].version() + static_cast<uint64_t>(i)) return "answers a gap in its versions";
  }
  if (answer.metadata().version() != events[events.size() - 1].version()) return "answers another version as its last";
  if (answer.commit_id() != record.request_id) return "answers another commit id";
  if (request.has_expected_version() && events[0].version() != request.expected_version() + 1) {
    return "was stored on another version than expected";
  }
  if (!answer.deduplicated() && events[0].version() <= acknowledged_before) {
    return absl::StrCat("was stored as version ", events[0].version(), ", but ", acknowledged_before,
                        " was acknowledged before");
  }
  if (answer.durability().replicas() != static_cast<uint32_t>(replicas)) return "answers another number of replicas";
  return "";
}

}  // namespace

Workload::Workload(WorkloadOptions options)
    : options_(std::move(options)), ledger_(static_cast<size_t>(options_.aggregates)) {}

Workload::~Workload() { Join(); }

void Workload::Start() {
  for (int writer = 0; writer < options_.writers; ++writer) threads_.emplace_back([this, writer] { Write(writer); });
}

void Workload::Join() {
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void Workload::Write(int writer) {
  Random random(options_.seed * 1000 + static_cast<uint64_t>(writer));
  // Half of the clients repeat for a while, so that their own rules are tried too. The others leave every failure to
  // the workload, which sees what is unknown and turns to another daemon.
  const std::vector<client::Client> clients = ConnectAll(options_, writer % 2 == 0 ? 1s : 0s);
  std::vector<uint64_t> known_versions(static_cast<size_t>(options_.aggregates));
  for (int i = 0; i < options_.saves_per_writer; ++i) {
    SaveRecord record;
    record.aggregate = random.Below(static_cast<size_t>(options_.aggregates));
    record.request_id = client::NewRequestId();
    record.events = 1 + static_cast<int>(random.Below(static_cast<size_t>(options_.max_events)));
    record.with_state = random.OneIn(3);
    uint64_t& known_version = known_versions[record.aggregate];
    pb::SaveRequest request;
    *request.mutable_ref() = WorkloadRef(record.aggregate);
    request.set_request_id(record.request_id);
    if (random.OneIn(2)) request.set_expected_version(known_version);
    for (int event = 0; event < record.events; ++event) {
      *request.add_events() = client::JsonEvent("changed", EventText(record.request_id, event, record.events));
    }
    if (record.with_state) *request.mutable_state() = client::JsonPayload(StateText(record.request_id));
    Settle(clients, random, std::move(record), std::move(request), known_version);
  }
}

void Workload::Settle(const std::vector<client::Client>& clients, Random& random, SaveRecord record,
                      pb::SaveRequest request, uint64_t& known_version) {
  const auto fail = [&](absl::string_view what) { ledger_.Fail(absl::StrCat("save ", record.request_id, " ", what)); };
  const auto give_up = std::chrono::steady_clock::now() + options_.settle_timeout;
  absl::Status last;
  while (std::chrono::steady_clock::now() < give_up) {
    const uint64_t acknowledged_before = ledger_.acknowledged_version(record.aggregate);
    const absl::StatusOr<pb::SaveResponse> answer = clients[random.Below(clients.size())].Save(request);
    last = answer.status();
    if (answer.ok()) {
      if (const std::string objection = Objection(record, request, *answer, acknowledged_before, options_.replicas);
          !objection.empty()) {
        fail(objection);
      }
      known_version = std::max(known_version, answer->metadata().version());
      if (answer->state_result() == pb::STATE_RESULT_PENDING) {
        last = absl::UnavailableError("state pending");
        continue;  // As the API says: the repeated save writes the state.
      }
      if (record.with_state == (answer->state_result() == pb::STATE_RESULT_UNSPECIFIED))
        fail("answers no or any state");
      record.answer = *answer;
      ledger_.Add(std::move(record));
      return;
    }
    if (absl::IsAborted(answer.status())) {
      const auto detail = client::GetErrorDetail(answer.status());
      if (!detail.has_value() || !detail->has_version_conflict()) {
        fail(absl::StrCat("was refused without telling the version: ", answer.status().ToString()));
      } else {
        const pb::ErrorDetail::VersionConflict& conflict = detail->version_conflict();
        if (!request.has_expected_version() || conflict.expected_version() != request.expected_version() ||
            conflict.actual_version() == request.expected_version()) {
          fail(absl::StrCat("was refused for no reason: ", answer.status().ToString()));
        }
        if (conflict.actual_version() < std::max(known_version, acknowledged_before)) {
          fail(absl::StrCat("was told version ", conflict.actual_version(), ", but ",
                            std::max(known_version, acknowledged_before), " was acknowledged before"));
        }
        known_version = std::max(known_version, conflict.actual_version());
      }
      ledger_.Add(std::move(record));
      return;
    }
    const bool unknown = client::MayHaveBeenStored(answer.status());
    if (!unknown && !client::IsRetryable(answer.status())) {
      fail(absl::StrCat("failed: ", answer.status().ToString()));
      return;
    }
    ledger_.CountFailed(unknown);
    std::this_thread::sleep_for(20ms);
  }
  fail(absl::StrCat("was not settled in time, last: ", last.ToString()));
}

std::vector<std::string> Workload::FindProblems() const {
  std::vector<std::string> problems = ledger_.problems();
  const std::vector<SaveRecord> records = ledger_.records();
  if (records.size() != total()) problems.push_back(absl::StrCat(records.size(), " of ", total(), " saves settled"));
  for (size_t aggregate = 0; aggregate < static_cast<size_t>(options_.aggregates); ++aggregate) {
    std::vector<SaveRecord> its;
    for (const SaveRecord& record : records) {
      if (record.aggregate == aggregate) its.push_back(record);
    }
    std::string first_seen;
    for (const client::Client& client : ConnectAll(options_, 1s)) {
      const Audit audit = AuditAggregate(client, WorkloadRef(aggregate), its);
      problems.insert(problems.end(), audit.problems.begin(), audit.problems.end());
      if (first_seen.empty()) first_seen = audit.history;
      if (audit.history != first_seen) problems.push_back("daemons tell different histories");
    }
  }
  return problems;
}

pb::AggregateRef WorkloadRef(size_t aggregate) {
  return client::Ref("fault", "account", absl::StrCat("account ", aggregate));
}

std::string Join(const std::vector<std::string>& problems) {
  constexpr size_t kShown = 20;
  std::string text = absl::StrJoin(
      problems.begin(), problems.begin() + static_cast<std::ptrdiff_t>(std::min(kShown, problems.size())), "\n");
  if (problems.size() > kShown) absl::StrAppend(&text, "\n… and ", problems.size() - kShown, " more");
  return text;
}

}  // namespace persistd::fault

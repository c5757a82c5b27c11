#include "tests/testing/nats_cluster.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/status_macros.h"
#include "tests/testing/http.h"
#include "tests/testing/poll.h"
#include "tests/testing/ports.h"

namespace persistd::testing {
namespace {

// The meta group as a server sees it (GET /jsz); null when it does not answer or knows none.
nlohmann::json MetaGroup(const NatsServer& server) {
  const absl::StatusOr<std::string> page = HttpGet(server.monitoring_port(), "/jsz");
  if (!page.ok()) return nullptr;
  const nlohmann::json json = nlohmann::json::parse(*page, nullptr, /*allow_exceptions=*/false);
  return json.is_object() ? json.value("meta_cluster", nlohmann::json()) : nullptr;
}

}  // namespace

absl::StatusOr<std::unique_ptr<NatsCluster>> NatsCluster::Start(Options options) {
  std::unique_ptr<NatsCluster> cluster(new NatsCluster);
  const std::vector<int> ports = FreePorts(options.size);
  const std::string routes = absl::StrJoin(
      ports, ", ", [](std::string* out, int port) { absl::StrAppend(out, "\"nats://127.0.0.1:", port, "\""); });
  for (int i = 0; i < options.size; ++i) {
    const std::string config = absl::StrCat("cluster { name: test, listen: \"127.0.0.1:", ports[static_cast<size_t>(i)],
                                            "\", routes: [", routes, "] }\n", options.extra_config);
    ASSIGN_OR_RETURN(std::unique_ptr<NatsServer> server, NatsServer::Start({.sync_always = options.sync_always,
                                                                            .extra_config = config,
                                                                            .user = options.user,
                                                                            .password = options.password,
                                                                            .name = absl::StrCat("n", i)}));
    cluster->servers_.push_back(std::move(server));
  }
  RETURN_IF_ERROR(cluster->WaitUntilWhole().status());
  return cluster;
}

std::vector<std::string> NatsCluster::urls() const {
  std::vector<std::string> urls;
  for (const auto& server : servers_) urls.push_back(server->url());
  return urls;
}

std::string NatsCluster::url_list() const { return absl::StrJoin(urls(), ","); }

absl::StatusOr<int> NatsCluster::WaitForLeader(std::chrono::milliseconds timeout) {
  int leader = -1;
  if (PollUntil([&] { return (leader = AgreedLeader()) >= 0; }, timeout)) return leader;
  return absl::DeadlineExceededError("the running nats-servers did not agree on a JetStream meta leader");
}

absl::StatusOr<int> NatsCluster::WaitUntilWhole(std::chrono::milliseconds timeout) {
  int leader = -1;
  if (PollUntil([&] { return (leader = AgreedLeader()) >= 0 && IsWhole(leader); }, timeout)) return leader;
  return absl::DeadlineExceededError("the nats-servers did not become one cluster that is up to date");
}

// -1 when there is none.
int NatsCluster::AgreedLeader() const {
  std::string leader;
  for (const auto& server : servers_) {
    if (!server->running() || server->paused()) continue;
    const nlohmann::json group = MetaGroup(*server);
    const std::string named = group.is_object() ? group.value("leader", "") : "";
    if (named.empty() || (!leader.empty() && named != leader)) return -1;
    leader = named;
  }
  for (size_t i = 0; i < servers_.size(); ++i) {
    if (servers_[i]->name() == leader && servers_[i]->running() && !servers_[i]->paused()) return static_cast<int>(i);
  }
  return -1;
}

bool NatsCluster::IsWhole(int leader) const {
  const nlohmann::json group = MetaGroup(*servers_[static_cast<size_t>(leader)]);
  if (!group.is_object() || !group.contains("replicas") || group["replicas"].size() + 1 != servers_.size())
    return false;
  for (const nlohmann::json& replica : group["replicas"]) {
    if (!replica.value("current", false) || replica.value("offline", false)) return false;
  }
  for (const auto& server : servers_) {
    // /healthz is 200 when the server's streams and consumers are up to date.
    if (!server->running() || server->paused() || !HttpGet(server->monitoring_port(), "/healthz").ok()) return false;
  }
  return true;
}

}  // namespace persistd::testing

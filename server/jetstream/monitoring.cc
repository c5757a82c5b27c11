#include "server/jetstream/monitoring.h"

#include <httplib.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"

namespace persistd::jetstream {
namespace {

constexpr time_t kTimeoutSeconds = 2;

// The server's page of general information.
absl::StatusOr<nlohmann::json> GetVarz(absl::string_view url) {
  std::string base(url);
  while (!base.empty() && base.back() == '/') base.pop_back();
  httplib::Client client(base);
  if (!client.is_valid()) return absl::UnavailableError(absl::StrCat("cannot use nats.monitoring_url ", base));
  client.set_connection_timeout(kTimeoutSeconds);
  client.set_read_timeout(kTimeoutSeconds);
  const httplib::Result answer = client.Get("/varz");
  if (!answer || answer->status != 200) {
    return absl::UnavailableError(
        absl::StrCat(base, "/varz does not answer: ",
                     answer ? absl::StrCat("HTTP status ", answer->status) : httplib::to_string(answer.error())));
  }
  return nlohmann::json::parse(answer->body, nullptr, /*allow_exceptions=*/false);
}

}  // namespace

absl::StatusOr<FsyncMode> AskFsyncMode(absl::string_view url) {
  const absl::StatusOr<nlohmann::json> page = GetVarz(url);
  if (!page.ok()) return page.status();
  const nlohmann::json& varz = *page;
  const nlohmann::json::json_pointer config_path("/jetstream/config");
  if (!varz.is_object() || !varz.contains(config_path) || !varz[config_path].is_object()) {
    return absl::FailedPreconditionError(absl::StrCat("the server at ", url, " does not run JetStream"));
  }
  const nlohmann::json& config = varz[config_path];
  const auto always = config.find("sync_always");
  return always != config.end() && always->is_boolean() && always->get<bool>() ? FsyncMode::kAlways
                                                                               : FsyncMode::kInterval;
}

absl::StatusOr<FsyncMode> AskFsyncModes(const std::vector<std::string>& urls) {
  FsyncMode weakest = urls.empty() ? FsyncMode::kUnknown : FsyncMode::kAlways;
  for (const std::string& url : urls) {
    const absl::StatusOr<FsyncMode> mode = AskFsyncMode(url);
    if (!mode.ok()) return mode;
    if (*mode != FsyncMode::kAlways) weakest = *mode;
  }
  return weakest;
}

uint64_t AskMemory(const std::vector<std::string>& urls) {
  uint64_t bytes = 0;
  for (const std::string& url : urls) {
    const absl::StatusOr<nlohmann::json> varz = GetVarz(url);
    if (!varz.ok() || !varz->is_object()) continue;
    const auto memory = varz->find("mem");
    if (memory != varz->end() && memory->is_number_unsigned()) bytes += memory->get<uint64_t>();
  }
  return bytes;
}

uint64_t MemoryOfProcess(pid_t pid) {
  if (pid <= 0) return 0;
  std::ifstream statm(absl::StrCat("/proc/", pid, "/statm"));
  uint64_t total = 0;
  uint64_t resident = 0;
  if (!(statm >> total >> resident)) return 0;
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace persistd::jetstream

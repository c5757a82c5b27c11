#include "server/jetstream/monitoring.h"

#include <httplib.h>

#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"

namespace persistd::jetstream {
namespace {

constexpr time_t kTimeoutSeconds = 2;

}  // namespace

absl::StatusOr<FsyncMode> AskFsyncMode(absl::string_view url) {
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
  const nlohmann::json varz = nlohmann::json::parse(answer->body, nullptr, /*allow_exceptions=*/false);
  const nlohmann::json::json_pointer config_path("/jetstream/config");
  if (!varz.is_object() || !varz.contains(config_path) || !varz[config_path].is_object()) {
    return absl::FailedPreconditionError(absl::StrCat("the server at ", base, " does not run JetStream"));
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

}  // namespace persistd::jetstream

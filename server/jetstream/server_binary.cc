#include "server/jetstream/server_binary.h"

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "server/base/process.h"
#include "server/base/status_macros.h"
#include "server/jetstream/server_version.h"

namespace persistd::jetstream {
namespace {

namespace fs = std::filesystem;

constexpr char kName[] = "nats-server";
constexpr auto kVersionTimeout = std::chrono::seconds(10);

absl::StatusOr<ServerBinary> Inspect(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string output, base::RunForOutput({path, "--version"}, kVersionTimeout));
  absl::string_view version = absl::StripAsciiWhitespace(output);
  if (!absl::ConsumePrefix(&version, "nats-server: v")) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is not nats-server: --version said \"", version.substr(0, 100), "\""));
  }
  if (const absl::Status status = CheckServerVersion(version); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
  }
  return ServerBinary{.path = path, .version = std::string(version)};
}

// The nearest .tools/nats-server/usr/sbin/nats-server of `folder` or a folder above it.
void AddNearestTool(fs::path folder, std::vector<std::string>& places) {
  std::error_code ignored;
  while (!folder.empty()) {
    const fs::path candidate = folder / ".tools/nats-server/usr/sbin" / kName;
    if (fs::exists(candidate, ignored)) {
      places.push_back(candidate.string());
      return;
    }
    if (folder == folder.parent_path()) return;
    folder = folder.parent_path();
  }
}

// Existing files only, in the order in which they are preferred.
std::vector<std::string> Places() {
  std::vector<std::string> places;
  std::error_code error;
  const char* path = std::getenv("PATH");
  for (const absl::string_view folder : absl::StrSplit(path != nullptr ? path : "", ':', absl::SkipEmpty())) {
    const fs::path candidate = fs::path(std::string(folder)) / kName;
    if (access(candidate.c_str(), X_OK) == 0 && fs::is_regular_file(candidate, error)) {
      places.push_back(candidate.string());
    }
  }
  if (const fs::path own = fs::read_symlink("/proc/self/exe", error); !error) {
    const fs::path beside = own.parent_path() / kName;
    if (fs::exists(beside, error)) places.push_back(beside.string());
    AddNearestTool(own.parent_path(), places);
  }
  if (const fs::path here = fs::current_path(error); !error) AddNearestTool(here, places);
  return places;
}

}  // namespace

absl::StatusOr<ServerBinary> FindServerBinary(const std::string& path) {
  if (!path.empty()) return Inspect(path);
  std::vector<std::string> reasons;
  for (const std::string& place : Places()) {
    absl::StatusOr<ServerBinary> found = Inspect(place);
    if (found.ok()) return found;
    reasons.push_back(std::string(found.status().message()));
  }
  if (reasons.empty()) {
    return absl::NotFoundError(
        "nats-server was not found in PATH, beside this program or in .tools: run deploy/setup, which fetches it, or "
        "set nats.embedded.binary");
  }
  return absl::FailedPreconditionError(absl::StrCat("no usable nats-server: ", absl::StrJoin(reasons, "; ")));
}

}  // namespace persistd::jetstream

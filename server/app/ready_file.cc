#include "server/app/ready_file.h"

#include <filesystem>
#include <system_error>

#include "server/base/replace_file.h"
#include "server/base/status_macros.h"

namespace persistd::app {

absl::Status PrepareReadyFile(const std::string& path) {
  RemoveReadyFile(path);
  const std::string trial = path + ".new";
  RETURN_IF_ERROR(base::ReplaceFile(trial, ""));
  RemoveReadyFile(trial);
  return absl::OkStatus();
}

absl::Status WriteReadyFile(const std::string& path, const std::string& address) {
  return base::ReplaceFile(path, address + "\n");
}

void RemoveReadyFile(const std::string& path) {
  std::error_code ignored;
  std::filesystem::remove(path, ignored);
}

}  // namespace persistd::app

#include "server/app/ready_file.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace persistd::app {

namespace {

std::string DraftOf(const std::string& path) { return path + ".new"; }

absl::Status WriteDraft(const std::string& path, const std::string& text) {
  errno = 0;
  std::ofstream file(DraftOf(path), std::ios::trunc);
  file << text;
  if (file.flush()) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("cannot write ", DraftOf(path), ": ", std::strerror(errno)));
}

}  // namespace

absl::Status PrepareReadyFile(const std::string& path) {
  RemoveReadyFile(path);
  if (absl::Status status = WriteDraft(path, ""); !status.ok()) return status;
  RemoveReadyFile(DraftOf(path));
  return absl::OkStatus();
}

absl::Status WriteReadyFile(const std::string& path, const std::string& address) {
  if (absl::Status status = WriteDraft(path, address + "\n"); !status.ok()) return status;
  std::error_code error;
  std::filesystem::rename(DraftOf(path), path, error);
  if (error) return absl::UnavailableError(absl::StrCat("cannot write ", path, ": ", error.message()));
  return absl::OkStatus();
}

void RemoveReadyFile(const std::string& path) {
  std::error_code ignored;
  std::filesystem::remove(path, ignored);
}

}  // namespace persistd::app

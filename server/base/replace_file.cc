#include "server/base/replace_file.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace persistd::base {

absl::Status ReplaceFile(const std::string& path, const std::string& text) {
  const std::string draft = path + ".new";
  {
    errno = 0;
    std::ofstream file(draft, std::ios::trunc);
    file << text;
    if (!file.flush()) {
      return absl::UnavailableError(absl::StrCat("cannot write ", path, ": ", std::strerror(errno)));
    }
  }
  std::error_code error;
  std::filesystem::rename(draft, path, error);
  if (error) return absl::UnavailableError(absl::StrCat("cannot write ", path, ": ", error.message()));
  return absl::OkStatus();
}

}  // namespace persistd::base

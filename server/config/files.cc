#include "server/config/files.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "server/config/text.h"

namespace persistd::config {
namespace {

struct Closer {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

absl::Status CannotRead(const std::string& path, int error) {
  return absl::InvalidArgumentError(absl::StrCat("cannot read ", Escaped(path), ": ", std::strerror(error)));
}

// Up to `max` bytes from the file's beginning.
absl::StatusOr<std::string> ReadUpTo(const std::string& path, std::size_t max) {
  const std::unique_ptr<std::FILE, Closer> file(std::fopen(path.c_str(), "rbe"));
  if (!file) return CannotRead(path, errno);
  std::string content(max, '\0');
  content.resize(std::fread(content.data(), 1, max, file.get()));
  if (std::ferror(file.get())) return CannotRead(path, errno);
  return content;
}

}  // namespace

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, std::size_t max) {
  absl::StatusOr<std::string> content = ReadUpTo(path, max + 1);
  if (content.ok() && content->size() > max) {
    return absl::InvalidArgumentError(absl::StrCat(Escaped(path), " is larger than ", max, " bytes"));
  }
  return content;
}

absl::Status CheckReadable(const std::string& path) {
  const absl::StatusOr<std::string> first = ReadUpTo(path, 1);
  if (!first.ok()) return first.status();
  if (first->empty()) return absl::InvalidArgumentError(absl::StrCat(Escaped(path), " is empty"));
  return absl::OkStatus();
}

}  // namespace persistd::config

#include "client/cli/input.h"

#include <fstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/json_text.h"
#include "client/cpp/requests.h"

namespace persistd::cli {
namespace {

namespace pb = cim::persistence::v1;

absl::StatusOr<std::string> ReadAll(std::istream& in, absl::string_view name) {
  // No daemon takes more; a file named by mistake must not fill the memory.
  constexpr size_t kMaxBytes = 64 << 20;
  std::string text;
  char buffer[1 << 16];
  while (in.read(buffer, sizeof buffer) || in.gcount() > 0) {
    text.append(buffer, static_cast<size_t>(in.gcount()));
    if (text.size() > kMaxBytes) return absl::InvalidArgumentError(absl::StrCat(name, " is larger than 64 MiB"));
  }
  if (in.bad() || !in.eof()) return absl::InvalidArgumentError(absl::StrCat("cannot read ", name));
  return text;
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::InvalidArgumentError(absl::StrCat("cannot open ", path));
  return ReadAll(file, path);
}

}  // namespace

absl::StatusOr<std::string> ReadInput(const std::string& file, std::istream& in) {
  return file == "-" ? ReadAll(in, "standard input") : ReadFile(file);
}

absl::StatusOr<pb::Payload> ParsePayload(absl::string_view what, std::string value) {
  if (absl::StartsWith(value, "@")) {
    absl::StatusOr<std::string> text = ReadFile(value.substr(1));
    if (!text.ok()) return text.status();
    value = *std::move(text);
  }
  if (absl::Status status = ValidateJson(value); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": ", status.message()));
  }
  return client::JsonPayload(std::move(value));
}

absl::Status Refuse(const Arguments& arguments, const std::string& verb, const Flags& flags) {
  for (const char* const flag : flags) {
    if (arguments.Has(flag)) return absl::InvalidArgumentError(absl::StrCat(verb, " takes no --", flag));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<pb::Payload>> ReadContent(const Arguments& arguments, std::istream& in) {
  const auto json = arguments.Get("data");
  const auto file = arguments.Get("file");
  const auto type = arguments.Get("content-type");
  if (json.has_value() && file.has_value()) return absl::InvalidArgumentError("give --data or --file, not both");
  if (type.has_value() && !file.has_value()) return absl::InvalidArgumentError("--content-type is of --file");
  if (json.has_value()) {
    absl::StatusOr<pb::Payload> payload = ParsePayload("--data", *json);
    if (!payload.ok()) return payload.status();
    return *std::move(payload);
  }
  if (!file.has_value()) return std::nullopt;
  absl::StatusOr<std::string> bytes = ReadInput(*file, in);
  if (!bytes.ok()) return bytes.status();
  pb::Payload payload;
  payload.set_content_type(type.value_or(""));
  payload.set_data(*std::move(bytes));
  return payload;
}

}  // namespace persistd::cli

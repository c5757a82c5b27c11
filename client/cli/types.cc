#include "client/cli/types.h"

#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace persistd::cli {
namespace {

namespace pb = cim::persistence::v1;

// What only `create` takes.
constexpr const char* kSettings[] = {"replicas", "storage", "compression", "cluster", "server-tag", "max-bytes"};

absl::StatusOr<std::pair<std::string, std::string>> ParseType(const Arguments& arguments) {
  const std::vector<std::string>& words = arguments.positionals();
  if (words.size() != 2) return absl::InvalidArgumentError(absl::StrCat(words[0], " takes one CONTEXT/AGGREGATE"));
  const size_t slash = words[1].find('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == words[1].size()) {
    return absl::InvalidArgumentError(absl::StrCat("\"", words[1], "\" is no CONTEXT/AGGREGATE"));
  }
  return std::pair(words[1].substr(0, slash), words[1].substr(slash + 1));
}

// 1000, 64MiB, 10GiB
absl::StatusOr<uint64_t> ParseBytes(absl::string_view text) {
  constexpr std::pair<absl::string_view, int> kUnits[] = {{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};
  constexpr int kMaxShift = 50;
  for (const auto& [unit, shift] : kUnits) {
    if (!absl::ConsumeSuffix(&text, unit)) continue;
    const auto number = ParseNumber("--max-bytes", text, uint64_t{1} << (kMaxShift - shift));
    if (!number.ok()) return number;
    return *number << shift;
  }
  return ParseNumber("--max-bytes", text, uint64_t{1} << kMaxShift);
}

absl::StatusOr<pb::StreamSettings> BuildSettings(const Arguments& arguments) {
  pb::StreamSettings settings;
  if (const auto text = arguments.Get("replicas")) {
    const auto replicas = ParseNumber("--replicas", *text, UINT32_MAX);
    if (!replicas.ok()) return replicas.status();
    settings.set_replicas(static_cast<uint32_t>(*replicas));
  }
  if (const auto text = arguments.Get("storage")) {
    if (*text != "file" && *text != "memory") return absl::InvalidArgumentError("--storage needs file or memory");
    settings.set_storage(*text == "file" ? pb::StreamSettings::STORAGE_FILE : pb::StreamSettings::STORAGE_MEMORY);
  }
  if (const auto text = arguments.Get("compression")) {
    if (*text != "none" && *text != "s2") return absl::InvalidArgumentError("--compression needs none or s2");
    settings.set_compression(*text == "s2" ? pb::StreamSettings::COMPRESSION_S2 : pb::StreamSettings::COMPRESSION_NONE);
  }
  if (const auto cluster = arguments.Get("cluster")) settings.mutable_placement()->set_cluster(*cluster);
  for (const std::string& tag : arguments.All("server-tag")) settings.mutable_placement()->add_tags(tag);
  if (const auto text = arguments.Get("max-bytes")) {
    const auto bytes = ParseBytes(*text);
    if (!bytes.ok()) return bytes.status();
    settings.set_max_bytes(*bytes);
  }
  return settings;
}

}  // namespace

const std::vector<FlagSpec>& TypesFlags() {
  static const std::vector<FlagSpec>& flags =
      *new std::vector<FlagSpec>{{"context"},  {"page-size"},   {"page-token"}, {"replicas"},
                                 {"storage"},  {"compression"}, {"cluster"},    {"server-tag", FlagSpec::kRepeated},
                                 {"max-bytes"}};
  return flags;
}

absl::StatusOr<
    std::variant<pb::ListAggregateTypesRequest, pb::DescribeAggregateTypeRequest, pb::CreateAggregateTypeRequest>>
BuildTypes(const Arguments& arguments) {
  const std::string verb = arguments.positionals().empty() ? "" : arguments.positionals()[0];
  const auto refuse_all = [&](auto& flags) -> absl::Status {
    for (const char* const flag : flags) {
      if (arguments.Has(flag)) return absl::InvalidArgumentError(absl::StrCat(verb, " takes no --", flag));
    }
    return absl::OkStatus();
  };
  constexpr const char* kListing[] = {"context", "page-size", "page-token"};
  if (verb != "create") {
    if (absl::Status status = refuse_all(kSettings); !status.ok()) return status;
  }
  if (verb != "list") {
    if (absl::Status status = refuse_all(kListing); !status.ok()) return status;
  }
  if (verb == "list") {
    if (arguments.positionals().size() > 1) return absl::InvalidArgumentError("list takes no arguments");
    pb::ListAggregateTypesRequest request;
    request.set_context(arguments.Get("context").value_or(""));
    request.set_page_token(arguments.Get("page-token").value_or(""));
    if (const auto text = arguments.Get("page-size")) {
      const auto size = ParseNumber("--page-size", *text, INT32_MAX);
      if (!size.ok()) return size.status();
      request.set_page_size(static_cast<int32_t>(*size));
    }
    return request;
  }
  if (verb != "describe" && verb != "create") {
    return absl::InvalidArgumentError("needs list, describe or create as its first word");
  }
  const auto type = ParseType(arguments);
  if (!type.ok()) return type.status();
  if (verb == "describe") {
    pb::DescribeAggregateTypeRequest request;
    request.set_context(type->first);
    request.set_aggregate(type->second);
    return request;
  }
  pb::CreateAggregateTypeRequest request;
  request.set_context(type->first);
  request.set_aggregate(type->second);
  absl::StatusOr<pb::StreamSettings> settings = BuildSettings(arguments);
  if (!settings.ok()) return settings.status();
  *request.mutable_settings() = *std::move(settings);
  return request;
}

}  // namespace persistd::cli

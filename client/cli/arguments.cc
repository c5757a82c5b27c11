#include "client/cli/arguments.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace persistd::cli {

absl::StatusOr<Arguments> Arguments::Parse(const std::vector<std::string>& args, const std::vector<FlagSpec>& specs,
                                           bool stop_at_positional) {
  Arguments result;
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    if (arg == "--") {
      auto& all = stop_at_positional ? result.rest_ : result.positionals_;
      all.insert(all.end(), args.begin() + static_cast<std::ptrdiff_t>(i) + 1, args.end());
      break;
    }
    if (arg.empty() || arg[0] != '-' || arg == "-") {
      if (stop_at_positional) {
        result.rest_.assign(args.begin() + static_cast<std::ptrdiff_t>(i), args.end());
        break;
      }
      result.positionals_.push_back(arg);
      continue;
    }

    const size_t equals = arg.find('=');
    const std::string flag = arg == "-h" ? "--help" : arg == "-o" ? "--output" : arg.substr(0, equals);
    const auto spec = std::find_if(specs.begin(), specs.end(),
                                   [&flag](const FlagSpec& known) { return absl::StrCat("--", known.name) == flag; });
    if (spec == specs.end()) return absl::InvalidArgumentError(absl::StrCat("unknown flag ", flag));
    std::vector<std::string>& values = result.flags_[spec->name];
    if (spec->arity != FlagSpec::kRepeated && !values.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(flag, " is given twice"));
    }
    if (spec->arity == FlagSpec::kSwitch) {
      if (equals != std::string::npos) return absl::InvalidArgumentError(absl::StrCat(flag, " takes no value"));
      values.emplace_back();
    } else if (equals != std::string::npos) {
      values.push_back(arg.substr(equals + 1));
    } else if (i + 1 < args.size()) {
      values.push_back(args[++i]);
    } else {
      return absl::InvalidArgumentError(absl::StrCat(flag, " needs a value"));
    }
  }
  return result;
}

std::optional<std::string> Arguments::Get(const std::string& flag) const {
  const auto found = flags_.find(flag);
  if (found == flags_.end()) return std::nullopt;
  return found->second.front();
}

std::vector<std::string> Arguments::All(const std::string& flag) const {
  const auto found = flags_.find(flag);
  return found == flags_.end() ? std::vector<std::string>() : found->second;
}

absl::StatusOr<std::optional<std::string>> Arguments::GetFilled(const std::string& flag) const {
  std::optional<std::string> text = Get(flag);
  if (text.has_value() && text->empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--", flag, " must not be empty"));
  }
  return text;
}

absl::StatusOr<std::optional<uint64_t>> Arguments::GetNumber(const std::string& flag) const {
  const std::optional<std::string> text = Get(flag);
  if (!text.has_value()) return std::nullopt;
  absl::StatusOr<uint64_t> number = ParseNumber(absl::StrCat("--", flag), *text);
  if (!number.ok()) return number.status();
  return *number;
}

absl::StatusOr<uint64_t> ParseNumber(absl::string_view what, absl::string_view text, uint64_t max) {
  uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [parsed, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || parsed != end || number > max) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " needs a whole number from 0 to ", max, ", not \"", text, "\""));
  }
  return number;
}

}  // namespace persistd::cli

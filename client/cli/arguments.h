// Splits a command line into flags and positional arguments.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace persistd::cli {

// A flag that a command knows, for example {"tag", kRepeated}.
struct FlagSpec {
  enum Arity { kSwitch, kOnce, kRepeated };

  std::string name;
  Arity arity = kOnce;
};

// The arguments of one command. Immutable after Parse, so it may be read from any thread.
class Arguments {
 public:
  // Takes `--name value`, `--name=value` and, for a switch, `--name`; `-h` means `--help`, `-o` means `--output`. After
  // `--` everything is positional. INVALID_ARGUMENT, in words for the user, on an unknown flag, a missing or extra
  // value, or a flag that is given twice but may not be.
  //
  // With `stop_at_positional` the first positional argument and all that follows it stay unread, in rest().
  static absl::StatusOr<Arguments> Parse(const std::vector<std::string>& args, const std::vector<FlagSpec>& specs,
                                         bool stop_at_positional = false);

  bool Has(const std::string& flag) const { return flags_.contains(flag); }
  // The flag's value; nullopt when it was not given.
  std::optional<std::string> Get(const std::string& flag) const;
  // All values of the flag, in order.
  std::vector<std::string> All(const std::string& flag) const;
  // As Get, of a flag that means something only with a value: `""`, as an unset variable leaves it, is refused.
  absl::StatusOr<std::optional<std::string>> GetFilled(const std::string& flag) const;
  // The flag's value as a number; nullopt when it was not given.
  absl::StatusOr<std::optional<uint64_t>> GetNumber(const std::string& flag) const;

  const std::vector<std::string>& positionals() const { return positionals_; }
  const std::vector<std::string>& rest() const { return rest_; }

 private:
  std::map<std::string, std::vector<std::string>> flags_;
  std::vector<std::string> positionals_;
  std::vector<std::string> rest_;
};

// `text` as a whole number of at most `max`; INVALID_ARGUMENT that begins with `what` otherwise.
absl::StatusOr<uint64_t> ParseNumber(absl::string_view what, absl::string_view text, uint64_t max = UINT64_MAX);

}  // namespace persistd::cli

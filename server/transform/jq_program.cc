#include "server/transform/jq_program.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "server/base/status_macros.h"
#include "server/transform/json_check.h"

namespace persistd::transform {
namespace {

constexpr size_t kMaxMessageBytes = 512;
constexpr size_t kMaxSourceBytes = 1u << 20;

// What reads anything but the input, or differs from run to run: a fold must give the same result for ever. A `def`
// before the program also makes `import` and `include` syntax errors.
constexpr absl::string_view kRefusedBuiltins[] = {"input",
                                                  "inputs",
                                                  "debug",
                                                  "stderr",
                                                  "input_filename",
                                                  "input_line_number",
                                                  "env",
                                                  "halt",
                                                  "halt_error",
                                                  "modulemeta",
                                                  "now",
                                                  "localtime",
                                                  "get_search_list",
                                                  "halt_error(f)",
                                                  "strflocaltime(f)",
                                                  "input_line_number(f)"};

// The program is the second line, so that jq's line numbers are ours plus one.
std::string Wrap(absl::string_view source) {
  std::string wrapped;
  for (const absl::string_view name : kRefusedBuiltins) {
    absl::StrAppend(&wrapped, "def ", name, ": error(\"", name.substr(0, name.find('(')),
                    " is not available here\"); ");
  }
  // $ENV: hides the environment from the program.
  absl::StrAppend(&wrapped, "{} as $ENV | .state as $state | .event | (\n", source, "\n)");
  return wrapped;
}

// "jq: error: syntax error, unexpected '}' (Unix shell quoting issues?) at <top-level>, line 2:" and then the program.
std::string TidyMessages(absl::string_view messages, absl::string_view source) {
  std::vector<std::string> tidy;
  const auto lines = static_cast<int>(std::count(source.begin(), source.end(), '\n')) + 1;
  for (absl::string_view line : absl::StrSplit(messages, '\n')) {
    constexpr absl::string_view kPrefix = "jq: error: ";
    constexpr absl::string_view kAt = " at <top-level>, line ";
    if (!absl::StartsWith(line, kPrefix)) continue;
    line.remove_prefix(kPrefix.size());
    const size_t at = line.rfind(kAt);
    if (at == absl::string_view::npos) {
      tidy.emplace_back(line);
      continue;
    }
    std::string what(line.substr(0, at));
    if (const size_t quoting = what.find(" (Unix shell quoting issues?)"); quoting != std::string::npos) {
      what.resize(quoting);
    }
    int number = 0;
    (void)absl::SimpleAtoi(absl::StripSuffix(line.substr(at + kAt.size()), ":"), &number);
    number = std::clamp(number - 1, 1, lines);
    tidy.push_back(absl::StrCat("line ", number, ": ", what));
  }
  if (tidy.empty()) tidy.emplace_back("it does not compile");
  std::string text = absl::StrJoin(tidy, "; ");
  if (text.size() > kMaxMessageBytes) text = absl::StrCat(text.substr(0, kMaxMessageBytes), "...");
  return text;
}

void AppendString(jv string, std::string& out) {
  constexpr char kHex[] = "0123456789abcdef";
  const char* text = jv_string_value(string);
  const int size = jv_string_length_bytes(jv_copy(string));
  out += '"';
  for (int i = 0; i < size; ++i) {
    const char c = text[i];
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      const auto byte = static_cast<unsigned char>(c);
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  out += '"';
}

// 2^53 itself may be 2^53 + 1, rounded.
absl::Status AppendNumber(double number, std::string& out) {
  if (!std::isfinite(number) || std::abs(number) >= kMaxExactNumber) {
    return absl::InvalidArgumentError("the program computed a number beyond 2^53");
  }
  char text[32];
  const std::to_chars_result result = std::trunc(number) == number
                                          ? std::to_chars(text, text + sizeof(text), static_cast<int64_t>(number))
                                          : std::to_chars(text, text + sizeof(text), number);
  out.append(text, result.ptr);
  return absl::OkStatus();
}

// Appends a borrowed value as JSON. depth: how deep it is nested.
absl::Status Append(jv value, int depth, size_t max_bytes, std::string& out) {
  if (depth > kMaxJsonDepth) return absl::InvalidArgumentError("the program's output is nested too deep");
  if (out.size() > max_bytes) {
    return absl::OutOfRangeError(absl::StrCat("the program's output is larger than ", max_bytes, " bytes"));
  }
  switch (jv_get_kind(value)) {
    case JV_KIND_NULL:
      out += "null";
      return absl::OkStatus();
    case JV_KIND_FALSE:
      out += "false";
      return absl::OkStatus();
    case JV_KIND_TRUE:
      out += "true";
      return absl::OkStatus();
    case JV_KIND_NUMBER:
      return AppendNumber(jv_number_value(value), out);
    case JV_KIND_STRING:
      AppendString(value, out);
      return absl::OkStatus();
    case JV_KIND_ARRAY: {
      out += '[';
      const int length = jv_array_length(jv_copy(value));
      absl::Status status;
      for (int i = 0; i < length && status.ok(); ++i) {
        if (i > 0) out += ',';
        const jv item = jv_array_get(jv_copy(value), i);
        status = Append(item, depth + 1, max_bytes, out);
        jv_free(item);
      }
      out += ']';
      return status;
    }
    case JV_KIND_OBJECT: {
      out += '{';
      absl::Status status;
      bool first = true;
      for (int i = jv_object_iter(value); status.ok() && jv_object_iter_valid(value, i);
           i = jv_object_iter_next(value, i)) {
        if (!first) out += ',';
        first = false;
        const jv key = jv_object_iter_key(value, i);
        AppendString(key, out);
        jv_free(key);
        out += ':';
        const jv item = jv_object_iter_value(value, i);
        status = Append(item, depth + 1, max_bytes, out);
        jv_free(item);
      }
      out += '}';
      return status;
    }
    case JV_KIND_INVALID:
      break;
  }
  return absl::InternalError("jq made no value");
}

// Checks a borrowed value as Append does, without the text: what the next step reads must be what a text of it says.
absl::Status CheckValue(jv value, int depth) {
  if (depth > kMaxJsonDepth) return absl::InvalidArgumentError("the program's output is nested too deep");
  absl::Status status;
  switch (jv_get_kind(value)) {
    case JV_KIND_NUMBER:
      if (const double number = jv_number_value(value); !std::isfinite(number) || std::abs(number) >= kMaxExactNumber) {
        return absl::InvalidArgumentError("the program computed a number beyond 2^53");
      }
      return status;
    case JV_KIND_ARRAY: {
      const int length = jv_array_length(jv_copy(value));
      for (int i = 0; i < length && status.ok(); ++i) {
        const jv item = jv_array_get(jv_copy(value), i);
        status = CheckValue(item, depth + 1);
        jv_free(item);
      }
      return status;
    }
    case JV_KIND_OBJECT:
      for (int i = jv_object_iter(value); status.ok() && jv_object_iter_valid(value, i);
           i = jv_object_iter_next(value, i)) {
        const jv item = jv_object_iter_value(value, i);
        status = CheckValue(item, depth + 1);
        jv_free(item);
      }
      return status;
    default:
      return status;
  }
}

absl::StatusOr<jv> Parse(absl::string_view text, absl::string_view what) {
  if (text.empty()) return jv_null();
  if (text.size() > static_cast<size_t>(std::numeric_limits<int>::max())) {
    return absl::InvalidArgumentError(absl::StrCat(what, " is too large"));
  }
  if (const absl::Status checked = CheckJson(text); !checked.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(what, " ", checked.message()));
  }
  const jv value = jv_parse_sized(text.data(), static_cast<int>(text.size()));
  if (jv_is_valid(value)) return value;
  jv_free(value);
  return absl::InvalidArgumentError(absl::StrCat(what, " is no JSON that jq can read"));
}

// What a failed run says; consumes `invalid`.
std::string MessageOf(jv invalid) {
  jv message = jv_invalid_get_msg(invalid);
  if (jv_get_kind(message) != JV_KIND_STRING) message = jv_dump_string(message, 0);
  std::string text(jv_string_value(message), static_cast<size_t>(jv_string_length_bytes(jv_copy(message))));
  jv_free(message);
  if (text.size() > kMaxMessageBytes) text = absl::StrCat(text.substr(0, kMaxMessageBytes), "...");
  return text;
}

}  // namespace

JqProgram::JqProgram() : jq_(jq_init()), state_(jv_null()) {}

JqProgram::~JqProgram() {
  jv_free(state_);
  if (jq_ != nullptr) jq_teardown(&jq_);
}

absl::StatusOr<std::unique_ptr<JqProgram>> JqProgram::Compile(absl::string_view source) {
  // A C string goes to jq: what follows a NUL would be dropped.
  if (source.find('\0') != absl::string_view::npos) return absl::InvalidArgumentError("holds a NUL byte");
  if (source.size() > kMaxSourceBytes) {
    return absl::InvalidArgumentError(absl::StrCat("is larger than ", kMaxSourceBytes, " bytes"));
  }
  std::unique_ptr<JqProgram> program(new JqProgram());
  if (program->jq_ == nullptr) return absl::ResourceExhaustedError("no memory for jq");
  jq_set_error_cb(
      program->jq_,
      [](void* data, jv message) {
        message = jq_format_error(message);
        absl::StrAppend(static_cast<std::string*>(data), jv_string_value(message), "\n");
        jv_free(message);
      },
      &program->messages_);
  if (jq_compile(program->jq_, Wrap(source).c_str()) == 0) {
    return absl::InvalidArgumentError(TidyMessages(program->messages_, source));
  }
  return program;
}

absl::Status JqProgram::Begin(absl::string_view state) {
  ASSIGN_OR_RETURN(const jv parsed, Parse(state, "the state"));
  jv_free(state_);
  state_ = parsed;
  return absl::OkStatus();
}

absl::Status JqProgram::Step(absl::string_view fields, absl::string_view data) {
  ASSIGN_OR_RETURN(jv event, Parse(fields, "the event"));
  const absl::StatusOr<jv> parsed = Parse(data, "its data");
  if (!parsed.ok()) {
    jv_free(event);
    return parsed.status();
  }
  event = jv_object_set(event, jv_string("data"), *parsed);
  jv input = jv_object();
  input = jv_object_set(input, jv_string("state"), std::exchange(state_, jv_null()));
  input = jv_object_set(input, jv_string("event"), event);
  jq_start(jq_, input, 0);
  const jv first = jq_next(jq_);
  if (!jv_is_valid(first)) {
    if (jv_invalid_has_msg(jv_copy(first))) {
      return absl::InvalidArgumentError(absl::StrCat("the program says: ", MessageOf(first)));
    }
    jv_free(first);
    return absl::InvalidArgumentError("the program gave no output; a fold needs exactly one");
  }
  const jv second = jq_next(jq_);
  if (jv_is_valid(second) || jv_invalid_has_msg(jv_copy(second))) {
    const bool value = jv_is_valid(second);
    jv_free(first);
    if (!value) return absl::InvalidArgumentError(absl::StrCat("the program says: ", MessageOf(second)));
    jv_free(second);
    return absl::InvalidArgumentError("the program gave more than one output; a fold needs exactly one");
  }
  jv_free(second);
  state_ = first;
  return CheckValue(state_, 1);
}

absl::StatusOr<std::string> JqProgram::Finish(size_t max_bytes) {
  std::string text;
  RETURN_IF_ERROR(Append(state_, 1, max_bytes, text));
  if (text.size() > max_bytes) {
    return absl::OutOfRangeError(absl::StrCat("the program's output is larger than ", max_bytes, " bytes"));
  }
  return text;
}

}  // namespace persistd::transform

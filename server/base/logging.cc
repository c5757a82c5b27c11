#include "server/base/logging.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <string>

namespace persistd::base {
namespace {

std::shared_ptr<spdlog::logger>& Logger() {
  static auto* logger = new std::shared_ptr<spdlog::logger>(spdlog::stderr_color_mt("persistd"));
  return *logger;
}

// A value that holds spaces, quotes, control characters or '=' is quoted, so that one line stays one record.
std::string Quoted(absl::string_view value) {
  bool plain = !value.empty();
  for (const char c : value) {
    if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c == 0x7f) plain = false;
  }
  if (plain) return std::string(value);
  std::string out = "\"";
  for (const char c : value) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) {
      constexpr char kHex[] = "0123456789abcdef";
      out += "\\x";
      out += kHex[static_cast<unsigned char>(c) >> 4];
      out += kHex[static_cast<unsigned char>(c) & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

void Log(spdlog::level::level_enum level, absl::string_view event, LogFields fields) {
  auto& logger = Logger();
  if (!logger->should_log(level)) return;
  std::string line(event);
  for (const LogField& field : fields) {
    absl::StrAppend(&line, " ", field.key, "=", Quoted(field.value));
  }
  logger->log(level, spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace

absl::Status SetUpLogging(absl::string_view level) {
  spdlog::level::level_enum value;
  if (level == "debug") {
    value = spdlog::level::debug;
  } else if (level == "info") {
    value = spdlog::level::info;
  } else if (level == "warn") {
    value = spdlog::level::warn;
  } else if (level == "error") {
    value = spdlog::level::err;
  } else {
    return absl::InvalidArgumentError("log level must be debug, info, warn or error");
  }
  Logger()->set_level(value);
  Logger()->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc);
  Logger()->flush_on(spdlog::level::info);
  return absl::OkStatus();
}

void LogDebug(absl::string_view event, LogFields fields) { Log(spdlog::level::debug, event, fields); }
void LogInfo(absl::string_view event, LogFields fields) { Log(spdlog::level::info, event, fields); }
void LogWarn(absl::string_view event, LogFields fields) { Log(spdlog::level::warn, event, fields); }
void LogError(absl::string_view event, LogFields fields) { Log(spdlog::level::err, event, fields); }

}  // namespace persistd::base

// Structured logging: a constant event text followed by key=value pairs, on standard error, through spdlog.
//
//   base::LogInfo("nats connected", {{"url", url}, {"server", name}});
//
// error = someone must act, warn = degraded, info = lifecycle, debug = per request. Never payloads, never secrets.
// Thread-safe.
#pragma once

#include <initializer_list>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace persistd::base {

struct LogField {
  template <typename T>
  LogField(absl::string_view key_in, const T& value_in) : key(key_in), value(ToText(value_in)) {}

  absl::string_view key;
  std::string value;

 private:
  static std::string ToText(bool value) { return value ? "true" : "false"; }
  static std::string ToText(const absl::Status& status) { return status.ToString(absl::StatusToStringMode::kWithNoExtraData); }
  template <typename T>
  static std::string ToText(const T& value) { return absl::StrCat(value); }
};

using LogFields = std::initializer_list<LogField>;

// level: "debug", "info", "warn" or "error".
absl::Status SetUpLogging(absl::string_view level);

void LogDebug(absl::string_view event, LogFields fields = {});
void LogInfo(absl::string_view event, LogFields fields = {});
void LogWarn(absl::string_view event, LogFields fields = {});
void LogError(absl::string_view event, LogFields fields = {});

}  // namespace persistd::base

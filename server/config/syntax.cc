#include "server/config/syntax.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "server/config/text.h"

namespace persistd::config {
namespace {

constexpr std::size_t kMaxName = 64;
constexpr std::size_t kMaxHost = 253;
constexpr std::size_t kMaxUrl = 1024;

absl::Status Wrong(absl::string_view text, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(Quoted(text), " ", what));
}

bool IsWord(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-'; }

bool IsHost(absl::string_view host) {
  return !host.empty() && host.size() <= kMaxHost && host.front() != '.' &&
         std::all_of(host.begin(), host.end(), [](char c) { return IsWord(c) || c == '.'; });
}

bool IsBracketedIpv6(absl::string_view host) {
  if (host.size() < 4 || host.front() != '[' || host.back() != ']') return false;
  in6_addr address;
  return inet_pton(AF_INET6, std::string(host.substr(1, host.size() - 2)).c_str(), &address) == 1;
}

bool IsPort(absl::string_view text, int min) {
  int port = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() && text.size() <= 5 && port >= min && port <= 65535;
}

// Splits at the colon before the port. Without a port, `port` is empty and `has_port` false.
struct HostPort {
  absl::string_view host;
  absl::string_view port;
  bool has_port;
};

HostPort Split(absl::string_view text) {
  const std::size_t colon = text.rfind(':');
  const std::size_t bracket = text.rfind(']');
  if (colon == absl::string_view::npos || (bracket != absl::string_view::npos && colon < bracket))
    return {text, "", false};
  return {text.substr(0, colon), text.substr(colon + 1), true};
}

// Checks what follows the scheme and the credentials. `shown` is the whole text as messages may show it.
absl::Status CheckAuthority(absl::string_view authority, absl::string_view shown) {
  const auto [host, port, has_port] = Split(authority);
  if (host.empty()) return Wrong(shown, "has no host");
  if (!IsHost(host) && !IsBracketedIpv6(host)) {
    return Wrong(shown,
                 absl::StrCat("has ", Quoted(host), " as its host, which is no name, IPv4 address or [IPv6 address]"));
  }
  if (has_port && !IsPort(port, 1)) {
    return Wrong(shown, absl::StrCat("has ", Quoted(port), " as its port, which is no number from 1 to 65535"));
  }
  return absl::OkStatus();
}

bool ConsumeScheme(absl::string_view& rest, std::initializer_list<absl::string_view> schemes) {
  return std::any_of(schemes.begin(), schemes.end(),
                     [&](absl::string_view scheme) { return absl::ConsumePrefix(&rest, scheme); });
}

absl::Status CheckName(absl::string_view text) {
  if (text.empty()) return Wrong(text, "is empty");
  if (text.size() > kMaxName) return Wrong(text, "is too long");
  if (!std::all_of(text.begin(), text.end(), IsWord)) return Wrong(text, "holds other characters");
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckListenAddress(absl::string_view text) {
  const auto [host, port, has_port] = Split(text);
  if (!has_port) return Wrong(text, "has no port");
  if (host.empty()) return Wrong(text, "has no host; write 0.0.0.0 or [::] to listen on every interface");
  if (!IsHost(host) && !IsBracketedIpv6(host)) return Wrong(text, "has no valid host");
  if (!IsPort(port, 0)) return Wrong(text, "has no valid port");
  return absl::OkStatus();
}

absl::Status CheckNatsUrl(absl::string_view text) {
  const std::string shown = WithoutCredentials(text);
  if (text.size() > kMaxUrl) return Wrong(shown, "is too long");
  if (absl::Status status = CheckText(shown, kMaxUrl); !status.ok()) return status;
  absl::string_view rest = text;
  if (!ConsumeScheme(rest, {"nats://", "tls://"})) return Wrong(shown, "does not begin with nats:// or tls://");
  absl::ConsumeSuffix(&rest, "/");
  if (const std::size_t at = rest.rfind('@'); at != absl::string_view::npos) {
    const absl::string_view credentials = rest.substr(0, at);
    const bool clean = std::none_of(credentials.begin(), credentials.end(), [](char c) {
      return IsControl(c) || c == ' ' || c == '/' || c == '?' || c == '#';
    });
    if (credentials.empty() || !clean || InvalidUtf8At(credentials)) {
      return Wrong(shown, "has malformed credentials; write space / ? # as %20 %2F %3F %23");
    }
    rest.remove_prefix(at + 1);
  }
  return CheckAuthority(rest, shown);
}

absl::Status CheckMonitoringUrl(absl::string_view text) {
  absl::string_view rest = text;
  if (text.size() > kMaxUrl) return Wrong(text, "is too long");
  if (!ConsumeScheme(rest, {"http://", "https://"})) return Wrong(text, "does not begin with http:// or https://");
  absl::ConsumeSuffix(&rest, "/");
  return CheckAuthority(rest, text);
}

absl::Status CheckStreamName(absl::string_view text) {
  if (absl::Status status = CheckName(text); !status.ok()) return status;
  // JetStream keeps KV buckets and object stores in streams of these names; CIM-CHAINS is the daemon's own.
  if (absl::StartsWith(text, "KV_") || absl::StartsWith(text, "OBJ_") || text == "CIM-CHAINS") {
    return Wrong(text, "is a reserved name");
  }
  return absl::OkStatus();
}

absl::Status CheckBucketName(absl::string_view text) {
  if (absl::Status status = CheckName(text); !status.ok()) return status;
  if (text == "cim-blocks" || text == "cim-control") return Wrong(text, "is a reserved name");
  return absl::OkStatus();
}

absl::Status CheckToken(absl::string_view text) {
  if (absl::Status status = CheckName(text); !status.ok()) return status;
  if (text.front() == '_') return Wrong(text, "begins with _");
  return absl::OkStatus();
}

absl::Status CheckPlacementWord(absl::string_view text) {
  if (text.empty()) return Wrong(text, "is empty");
  if (text.size() > kMaxName) return Wrong(text, "is too long");
  const bool clean = std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isgraph(static_cast<unsigned char>(c)) && c != '"' && c != '\\' && c != ',';
  });
  return clean ? absl::OkStatus() : Wrong(text, "holds other characters");
}

absl::Status CheckText(absl::string_view text, std::size_t max) {
  // None of these messages shows the text: it may be a secret.
  if (text.size() > max) return absl::InvalidArgumentError(absl::StrCat("text of ", text.size(), " bytes is too long"));
  if (std::any_of(text.begin(), text.end(), IsControl))
    return absl::InvalidArgumentError("text holds a control character");
  if (InvalidUtf8At(text)) return absl::InvalidArgumentError("text is not UTF-8");
  return absl::OkStatus();
}

bool UrlHasCredentials(absl::string_view url) { return url.find('@') != absl::string_view::npos; }

std::string WithoutCredentials(absl::string_view url) {
  const std::size_t at = url.rfind('@');
  if (at == absl::string_view::npos) return std::string(url);
  std::size_t begin = url.find("://");
  begin = begin == absl::string_view::npos || begin > at ? 0 : begin + 3;
  return absl::StrCat(url.substr(0, begin), "***", url.substr(at));
}

}  // namespace persistd::config

#include "server/jetstream/wire_parser.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace persistd::jetstream {
namespace {

constexpr absl::string_view kLineEnd = "\r\n";
constexpr size_t kMaxLine = 1u << 20;       // INFO of a large cluster.
constexpr size_t kMaxMessage = 128u << 20;  // Far more than any server's max_payload.
constexpr size_t kKeptBytes = 1u << 20;

absl::Status Malformed(absl::string_view line) {
  return absl::DataLossError(
      absl::StrCat("the NATS server sent what is not its protocol: ", absl::CHexEscape(line.substr(0, 60))));
}

}  // namespace

Headers ParseHeaders(absl::string_view block) {
  Headers headers;
  headers.Reserve(static_cast<size_t>(std::count(block.begin(), block.end(), '\n')));
  bool first = true;
  while (!block.empty()) {
    const size_t end = std::min(block.find(kLineEnd), block.size());
    absl::string_view line = block.substr(0, end);
    block.remove_prefix(std::min(end + kLineEnd.size(), block.size()));
    if (first) {
      first = false;
      const size_t space = line.find(' ');
      if (space == absl::string_view::npos) continue;
      line = absl::StripAsciiWhitespace(line.substr(space));
      const size_t status_end = std::min(line.find(' '), line.size());
      if (status_end > 0) headers.Add("Status", std::string(line.substr(0, status_end)));
      line = absl::StripAsciiWhitespace(line.substr(status_end));
      if (!line.empty()) headers.Add("Description", std::string(line));
      continue;
    }
    const size_t colon = line.find(':');
    if (colon == absl::string_view::npos) continue;
    headers.Add(line.substr(0, colon), std::string(absl::StripAsciiWhitespace(line.substr(colon + 1))));
  }
  return headers;
}

absl::Status WireParser::Feed(absl::string_view bytes, Sink& sink) {
  const bool had_rest = !rest_.empty();
  if (had_rest) {
    rest_.append(bytes.data(), bytes.size());
    if (rest_.size() < needed_) return absl::OkStatus();
    bytes = rest_;
  }
  needed_ = 0;
  while (!bytes.empty()) {
    const absl::StatusOr<bool> taken = TakeOne(bytes, sink);
    if (!taken.ok()) return taken.status();
    if (!*taken) break;
  }
  if (had_rest) {
    rest_.erase(0, rest_.size() - bytes.size());
    if (rest_.empty() && rest_.capacity() > kKeptBytes) rest_.shrink_to_fit();
  } else {
    rest_.assign(bytes.data(), bytes.size());
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> WireParser::TakeOne(absl::string_view& bytes, Sink& sink) {
  const size_t line_end = bytes.find(kLineEnd);
  if (line_end == absl::string_view::npos) {
    if (bytes.size() > kMaxLine) return Malformed(bytes);
    return false;
  }
  const absl::string_view line = bytes.substr(0, line_end);
  const bool headers = absl::StartsWith(line, "HMSG ");
  if (!headers && !absl::StartsWith(line, "MSG ")) {
    bytes.remove_prefix(line_end + kLineEnd.size());
    if (line == "PING") {
      sink.OnPing();
    } else if (absl::StartsWith(line, "-ERR")) {
      absl::string_view text = absl::StripAsciiWhitespace(line.substr(4));
      if (text.size() >= 2 && text.front() == '\'') text = text.substr(1, text.size() - 2);
      sink.OnError(text);
    } else if (line != "PONG" && line != "+OK" && !absl::StartsWith(line, "INFO ")) {
      return Malformed(line);
    }
    return true;
  }
  // MSG subject sid [reply] bytes; HMSG subject sid [reply] header-bytes bytes
  const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
  const size_t counts = headers ? 2 : 1;
  size_t header_bytes = 0;
  size_t total = 0;
  if ((words.size() != 3 + counts && words.size() != 4 + counts) || !absl::SimpleAtoi(words.back(), &total) ||
      (headers && !absl::SimpleAtoi(words[words.size() - 2], &header_bytes)) || header_bytes > total ||
      total > kMaxMessage) {
    return Malformed(line);
  }
  const size_t body = line_end + kLineEnd.size();
  const size_t whole = body + total + kLineEnd.size();
  if (bytes.size() < whole) {
    needed_ = whole;
    return false;
  }
  if (bytes.substr(body + total, kLineEnd.size()) != kLineEnd) return Malformed(line);
  const absl::string_view reply = words.size() == 4 + counts ? words[3] : absl::string_view();
  sink.OnMessage(words[1], reply, bytes.substr(body, header_bytes),
                 bytes.substr(body + header_bytes, total - header_bytes));
  bytes.remove_prefix(whole);
  return true;
}

}  // namespace persistd::jetstream

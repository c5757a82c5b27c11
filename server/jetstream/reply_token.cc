#include "server/jetstream/reply_token.h"

#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace persistd::jetstream {
namespace {

constexpr absl::string_view kAck = "$JS.ACK.";
constexpr size_t kPlainParts = 7;
constexpr size_t kMostParts = 10;  // Domain and account before, and a random token behind them.

std::optional<uint64_t> Number(absl::string_view text) {
  uint64_t number = 0;
  if (text.empty() || !absl::ascii_isdigit(static_cast<unsigned char>(text.front())) ||
      !absl::SimpleAtoi(text, &number)) {
    return std::nullopt;
  }
  return number;
}

}  // namespace

std::optional<Delivery> ParseDelivery(absl::string_view reply) {
  if (!absl::StartsWith(reply, kAck)) return std::nullopt;
  std::array<absl::string_view, kMostParts> parts;
  size_t count = 0;
  absl::string_view rest = reply.substr(kAck.size());
  while (true) {
    if (count == parts.size()) return std::nullopt;
    const size_t dot = rest.find('.');
    parts[count++] = rest.substr(0, dot);
    if (dot == absl::string_view::npos) break;
    rest = rest.substr(dot + 1);
  }
  size_t at = 0;
  if (count > kPlainParts) at = 2;
  if (count < at + kPlainParts) return std::nullopt;
  const std::optional<uint64_t> stream_sequence = Number(parts[at + 3]);
  const std::optional<uint64_t> consumer_sequence = Number(parts[at + 4]);
  const std::optional<uint64_t> time_ns = Number(parts[at + 5]);
  const std::optional<uint64_t> pending = Number(parts[at + 6]);
  if (!stream_sequence.has_value() || !consumer_sequence.has_value() || !time_ns.has_value() || !pending.has_value()) {
    return std::nullopt;
  }
  return Delivery{.stream = parts[at],
                  .consumer = parts[at + 1],
                  .stream_sequence = *stream_sequence,
                  .consumer_sequence = *consumer_sequence,
                  .time_ns = *time_ns,
                  .pending = *pending};
}

std::optional<uint64_t> ReplyToken(absl::string_view inbox_prefix, absl::string_view subject, absl::string_view reply) {
  if (absl::StartsWith(subject, inbox_prefix)) return Number(subject.substr(inbox_prefix.size()));
  const std::optional<Delivery> delivery = ParseDelivery(reply);
  if (!delivery.has_value()) return std::nullopt;
  const size_t dash = delivery->consumer.rfind('-');
  if (dash == absl::string_view::npos) return std::nullopt;
  return Number(delivery->consumer.substr(dash + 1));
}

std::string DeliveryName(absl::string_view unique, uint64_t channel) {
  return absl::StrCat("persistd-", unique, "-", channel);
}

}  // namespace persistd::jetstream

#include "server/index/page_token.h"

#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"

namespace persistd::index {
namespace {

using nlohmann::json;

constexpr size_t kMaxTokenBytes = 2048;

// What a token is bound to. Page size, and what to wait for, may change from page to page.
std::string QueryText(const ListQuery& query) {
  return json({query.context, query.aggregate, query.tags, query.filter, query.order_by, query.show_deleted,
               query.with_chains})
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

uint64_t QueryHash(const ListQuery& query) {
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (const char c : QueryText(query)) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

}  // namespace

std::string ToPageToken(const ListQuery& query, const PageEnd& end) {
  const json token = {QueryHash(query), end.key, end.entity_id, end.context, end.aggregate};
  return absl::WebSafeBase64Escape(token.dump(-1, ' ', false, json::error_handler_t::replace));
}

std::optional<PageEnd> ParsePageToken(const ListQuery& query, absl::string_view token) {
  std::string text;
  if (token.size() > kMaxTokenBytes || !absl::WebSafeBase64Unescape(token, &text)) return std::nullopt;
  const json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  const bool whole = parsed.is_array() && parsed.size() == 5 && parsed[0].is_number_unsigned() &&
                     parsed[1].is_number_integer() && parsed[2].is_string() && parsed[3].is_string() &&
                     parsed[4].is_string();
  if (!whole || parsed[0].get<uint64_t>() != QueryHash(query)) return std::nullopt;
  return PageEnd{.key = parsed[1].get<int64_t>(),
                 .entity_id = parsed[2].get<std::string>(),
                 .context = parsed[3].get<std::string>(),
                 .aggregate = parsed[4].get<std::string>()};
}

}  // namespace persistd::index

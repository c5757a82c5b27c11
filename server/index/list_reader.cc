#include "server/index/list_reader.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/event.h"
#include "server/domain/subject.h"
#include "server/index/store.h"

namespace persistd::index {
namespace {

using nlohmann::json;
using Order = CheckedList::Order;

constexpr size_t kDefaultPage = 100;
constexpr size_t kLargestPage = 1000;

std::vector<filter::Field> Fields() {
  return {{.name = "context", .type = filter::Type::kText, .sql = "t.context"},
          {.name = "aggregate", .type = filter::Type::kText, .sql = "t.aggregate"},
          {.name = "entity_id", .type = filter::Type::kText, .sql = "a.entity"},
          {.name = "version", .type = filter::Type::kNumber, .sql = "a.version"},
          {.name = "last_modified", .type = filter::Type::kTime, .sql = "a.modified"},
          {.name = "tags", .type = filter::Type::kTexts, .sql = "a.tags"},
          {.name = "deleted", .type = filter::Type::kBool, .sql = "a.deleted"}};
}

struct AggregateType {
  int64_t id = 0;
  std::string context;
  std::string aggregate;
  domain::StreamPosition stream;
};

struct Row {
  PageEnd place;
  repository::AggregateInfo info;
};

bool ComesBefore(const Row& left, const Row& right) {
  return std::tie(left.place.key, left.place.entity_id, left.place.context, left.place.aggregate) <
         std::tie(right.place.key, right.place.entity_id, right.place.context, right.place.aggregate);
}

const char* KeyColumn(Order order) {
  switch (order) {
    case Order::kEntityId:
      return "0";
    case Order::kLastModified:
      return "a.modified";
    case Order::kVersion:
      return "a.version";
  }
  return "0";
}

std::vector<std::string> ToTags(const std::string& text) {
  std::vector<std::string> tags;
  const json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_array()) return tags;
  for (const json& tag : parsed) {
    if (tag.is_string()) tags.push_back(tag.get<std::string>());
  }
  return tags;
}

domain::CustomMetadata ToMetadata(const std::string& text) {
  domain::CustomMetadata metadata;
  const json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return metadata;
  for (const auto& [key, value] : parsed.items()) {
    if (value.is_string()) metadata.emplace(key, value.get<std::string>());
  }
  return metadata;
}

// The statement for the aggregates of one type. Texts of the caller are parameters, never part of it.
struct PageSql {
  std::string text;
  std::vector<std::variant<std::string, int64_t>> parameters;
};

PageSql ToSql(const ListQuery& query, const CheckedList& checked, const AggregateType& type) {
  const char* const key = KeyColumn(checked.order);
  PageSql sql;
  sql.text = absl::StrCat("SELECT ", key,
                          ", a.entity, a.version, a.sequence, a.modified, a.deleted, a.cid, a.tags, "
                          "a.metadata FROM aggregates AS a JOIN types AS t ON t.id = a.type WHERE a.type = ?");
  sql.parameters.emplace_back(type.id);
  if (!query.show_deleted) absl::StrAppend(&sql.text, " AND a.deleted = 0");
  for (const std::string& tag : query.tags) {
    absl::StrAppend(&sql.text, " AND EXISTS(SELECT 1 FROM json_each(a.tags) WHERE value = ?)");
    sql.parameters.emplace_back(tag);
  }
  if (checked.filter.has_value() && !checked.filter->empty()) {
    filter::SqlFilter filter = checked.filter->ToSql();
    absl::StrAppend(&sql.text, " AND (", filter.where, ")");
    for (auto& parameter : filter.parameters) sql.parameters.push_back(std::move(parameter));
  }
  if (checked.after.has_value()) {
    const PageEnd& after = *checked.after;
    const auto mine = std::tie(type.context, type.aggregate);
    const auto its = std::tie(after.context, after.aggregate);
    // Whether this type's aggregate of the same key and entity was still to come.
    const bool same_too = checked.descending ? mine < its : mine > its;
    const std::string beyond = absl::StrCat(checked.descending ? "<" : ">", same_too ? "=" : "");
    if (checked.order == Order::kEntityId) {
      absl::StrAppend(&sql.text, " AND a.entity ", beyond, " ?");
    } else {
      absl::StrAppend(&sql.text, " AND (", key, ", a.entity) ", beyond, " (?, ?)");
      sql.parameters.emplace_back(after.key);
    }
    sql.parameters.emplace_back(after.entity_id);
  }
  const char* const direction = checked.descending ? " DESC" : "";
  absl::StrAppend(&sql.text, " ORDER BY ");
  if (checked.order != Order::kEntityId) absl::StrAppend(&sql.text, key, direction, ", ");
  absl::StrAppend(&sql.text, "a.entity", direction, " LIMIT ?");
  sql.parameters.emplace_back(static_cast<int64_t>(checked.page_size + 1));
  return sql;
}

absl::StatusOr<std::vector<AggregateType>> ReadTypes(Database& database, const ListQuery& query) {
  std::vector<AggregateType> types;
  ASSIGN_OR_RETURN(Statement statement,
                   database.Prepare("SELECT t.id, t.context, t.aggregate, s.name, s.incarnation FROM types AS t JOIN "
                                    "streams AS s ON s.id = t.stream WHERE (?1 = '' OR t.context = ?1) AND (?2 = '' OR "
                                    "t.aggregate = ?2) AND t.context <> ?3"));
  statement.Bind(1, query.context);
  statement.Bind(2, query.aggregate);
  const std::string left_out = query.with_chains ? "" : domain::kChainContext;  // Bound texts must stay.
  statement.Bind(3, left_out);
  while (true) {
    ASSIGN_OR_RETURN(const bool row, statement.Step());
    if (!row) return types;
    types.push_back(
        {.id = statement.Integer(0),
         .context = statement.Text(1),
         .aggregate = statement.Text(2),
         .stream = {
             .stream = statement.Text(3), .incarnation = static_cast<uint64_t>(statement.Integer(4)), .sequence = 0}});
  }
}

absl::StatusOr<domain::Position> ReadPosition(Database& database) {
  std::string token;
  ASSIGN_OR_RETURN(Statement statement, database.Prepare("SELECT name, incarnation, sequence FROM streams WHERE "
                                                         "incarnation <> 0 ORDER BY name"));
  while (true) {
    ASSIGN_OR_RETURN(const bool row, statement.Step());
    if (!row) break;
    absl::StrAppend(&token, token.empty() ? "" : ",", statement.Text(0), ":",
                    static_cast<uint64_t>(statement.Integer(1)), ":", static_cast<uint64_t>(statement.Integer(2)));
  }
  return domain::Position::Parse(token).value_or(domain::Position());
}

absl::Status ReadRows(Database& database, const ListQuery& query, const CheckedList& checked, const AggregateType& type,
                      std::vector<Row>& rows) {
  const PageSql sql = ToSql(query, checked, type);
  ASSIGN_OR_RETURN(Statement statement, database.Prepare(sql.text));
  for (size_t i = 0; i < sql.parameters.size(); ++i) {
    std::visit([&](const auto& value) { statement.Bind(static_cast<int>(i + 1), value); }, sql.parameters[i]);
  }
  while (true) {
    ASSIGN_OR_RETURN(const bool found, statement.Step());
    if (!found) return absl::OkStatus();
    Row row;
    row.place = {.key = statement.Integer(0),
                 .entity_id = statement.Text(1),
                 .context = type.context,
                 .aggregate = type.aggregate};
    repository::AggregateInfo& info = row.info;
    info.ref = {.context = type.context, .aggregate = type.aggregate, .entity_id = row.place.entity_id};
    info.version = static_cast<uint64_t>(statement.Integer(2));
    domain::StreamPosition position = type.stream;
    position.sequence = static_cast<uint64_t>(statement.Integer(3));
    info.position = domain::Position(std::move(position));
    info.last_modified = base::WallTime(std::chrono::nanoseconds(statement.Integer(4)));
    info.deleted = statement.Integer(5) != 0;
    info.head_cid = statement.Text(6);
    if (!statement.IsNull(7)) info.tags = ToTags(statement.Text(7));
    if (!statement.IsNull(8)) info.metadata = ToMetadata(statement.Text(8));
    rows.push_back(std::move(row));
  }
}

}  // namespace

absl::StatusOr<CheckedList> CheckList(const ListQuery& query) {
  CheckedList checked;
  if (query.page_size < 0) return domain::InvalidField("page_size", "must not be negative");
  checked.page_size =
      query.page_size == 0 ? kDefaultPage : std::min(static_cast<size_t>(query.page_size), kLargestPage);
  if (!query.context.empty()) RETURN_IF_ERROR(domain::ValidateToken(query.context, "context"));
  if (!query.aggregate.empty()) RETURN_IF_ERROR(domain::ValidateToken(query.aggregate, "aggregate"));
  if (query.tags.size() > domain::kMaxTags) {
    return domain::InvalidField("tags", absl::StrCat("at most ", domain::kMaxTags, " are allowed"));
  }
  static const std::map<std::string, std::pair<Order, bool>> kOrders = {
      {"", {Order::kEntityId, false}},
      {"entity_id", {Order::kEntityId, false}},
      {"entity_id desc", {Order::kEntityId, true}},
      {"last_modified", {Order::kLastModified, false}},
      {"last_modified desc", {Order::kLastModified, true}},
      {"version", {Order::kVersion, false}},
      {"version desc", {Order::kVersion, true}}};
  const auto order = kOrders.find(query.order_by);
  if (order == kOrders.end()) {
    return domain::InvalidField("order_by", "must be entity_id, last_modified or version, alone or with ` desc`");
  }
  checked.order = order->second.first;
  checked.descending = order->second.second;
  absl::StatusOr<filter::Filter> filter = filter::Filter::Parse(query.filter, Fields());
  if (!filter.ok()) return domain::InvalidField("filter", filter.status().message());
  checked.filter = *std::move(filter);
  if (!query.page_token.empty()) {
    checked.after = ParsePageToken(query, query.page_token);
    if (!checked.after.has_value()) {
      return domain::InvalidField("page_token",
                                  "is not from a page of the same list: the other fields must be the same");
    }
  }
  return checked;
}

absl::Status ListReader::OpenIfNeeded() {
  if (database_ != nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(database_,
                   Database::Open({.path = options_.path, .read_only = true, .cache_bytes = options_.cache_bytes}));
  return absl::OkStatus();
}

absl::StatusOr<ListPage> ListReader::Read(const ListQuery& query, const CheckedList& checked,
                                          base::SteadyTime deadline) {
  RETURN_IF_ERROR(OpenIfNeeded());
  RETURN_IF_ERROR(database_->Execute("BEGIN"));
  database_->StopAt(deadline);
  absl::StatusOr<ListPage> page = ReadPage(query, checked);
  database_->StopAt(std::nullopt);
  const absl::Status ended = database_->Execute("COMMIT");
  if (!page.ok() || !ended.ok()) Reopen();
  if (page.ok() && !ended.ok()) return ended;
  return page;
}

absl::StatusOr<ListPage> ListReader::ReadPage(const ListQuery& query, const CheckedList& checked) {
  ListPage page;
  ASSIGN_OR_RETURN(page.position, ReadPosition(*database_));
  ASSIGN_OR_RETURN(const std::vector<AggregateType> types, ReadTypes(*database_, query));
  const auto before = [&checked](const Row& left, const Row& right) {
    return checked.descending ? ComesBefore(right, left) : ComesBefore(left, right);
  };
  // Each type's rows come in order; of all of them the first ones are the page.
  std::vector<Row> rows;
  for (const AggregateType& type : types) {
    RETURN_IF_ERROR(ReadRows(*database_, query, checked, type, rows));
    std::sort(rows.begin(), rows.end(), before);
    if (rows.size() > checked.page_size + 1) rows.resize(checked.page_size + 1);
  }
  if (rows.size() > checked.page_size) {
    rows.resize(checked.page_size);
    page.next_page_token = ToPageToken(query, rows.back().place);
  }
  for (Row& row : rows) page.aggregates.push_back(std::move(row.info));
  return page;
}

absl::StatusOr<std::optional<uint64_t>> ListReader::FirstVersion(const domain::AggregateRef& ref,
                                                                 const std::string& commit_id) {
  RETURN_IF_ERROR(OpenIfNeeded());
  ASSIGN_OR_RETURN(Statement statement, database_->Prepare("SELECT version FROM commits WHERE key = ?1"));
  statement.Bind(1, CommitKey(ref, commit_id));
  ASSIGN_OR_RETURN(const bool found, statement.Step());
  if (!found) return std::nullopt;
  return static_cast<uint64_t>(statement.Integer(0));
}

absl::StatusOr<std::vector<CidSegments::Found>> ListReader::FindCid(uint64_t key) {
  RETURN_IF_ERROR(OpenIfNeeded());
  RETURN_IF_ERROR(database_->Execute("BEGIN"));
  absl::StatusOr<std::vector<CidSegments::Found>> found = CidSegments::Find(*database_, key);
  RETURN_IF_ERROR(database_->Execute("COMMIT"));
  return found;
}

}  // namespace persistd::index

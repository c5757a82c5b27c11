#include "server/index/store.h"

#include <array>
#include <chrono>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/base/logging.h"
#include "server/base/status_macros.h"

namespace persistd::index {
namespace {

// A file of another version is made anew.
constexpr int64_t kSchemaVersion = 3;

// A larger file is not read as a whole at the start; damage in it is met when it is used, and it is built anew then.
constexpr int64_t kMaxCheckedBytes = 64 << 20;

constexpr const char* kSchema = R"sql(
CREATE TABLE streams(
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  incarnation INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  fingerprint INTEGER NOT NULL,
  built INTEGER NOT NULL
);
CREATE TABLE types(
  id INTEGER PRIMARY KEY,
  context TEXT NOT NULL,
  aggregate TEXT NOT NULL,
  stream INTEGER NOT NULL,
  UNIQUE(context, aggregate)
);
CREATE TABLE aggregates(
  type INTEGER NOT NULL,
  entity TEXT NOT NULL,
  version INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  modified INTEGER NOT NULL,
  deleted INTEGER NOT NULL,
  cid TEXT,
  tags TEXT,
  metadata TEXT,
  PRIMARY KEY(type, entity)
) WITHOUT ROWID;
CREATE TABLE events(
  stream INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  type INTEGER NOT NULL,
  entity TEXT NOT NULL,
  version INTEGER NOT NULL,
  recorded INTEGER NOT NULL,
  commit_id TEXT NOT NULL,
  PRIMARY KEY(stream, sequence)
) WITHOUT ROWID;
CREATE TABLE commits(
  key INTEGER PRIMARY KEY,
  version INTEGER NOT NULL
);
)sql";

// A checkpoint copies what changed into the file and calls fsync: larger ones copy pages that changed often only once.
constexpr const char* kWriterPragmas =
    "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=16000; PRAGMA journal_size_limit=67108864;";

void BindOptional(Statement& statement, int parameter, absl::string_view text) {
  if (text.empty()) {
    statement.BindNull(parameter);
  } else {
    statement.Bind(parameter, text);
  }
}

absl::StatusOr<std::unique_ptr<Database>> OpenChecked(const Store::Options& options) {
  ASSIGN_OR_RETURN(std::unique_ptr<Database> database,
                   Database::Open({.path = options.path, .read_only = false, .cache_bytes = options.cache_bytes}));
  RETURN_IF_ERROR(database->Execute(kWriterPragmas));
  ASSIGN_OR_RETURN(const int64_t version, database->QueryInteger("PRAGMA user_version"));
  if (version == kSchemaVersion) {
    ASSIGN_OR_RETURN(const int64_t pages, database->QueryInteger("PRAGMA page_count"));
    ASSIGN_OR_RETURN(const int64_t page_bytes, database->QueryInteger("PRAGMA page_size"));
    if (pages * page_bytes > kMaxCheckedBytes) return database;
    ASSIGN_OR_RETURN(Statement check, database->Prepare("PRAGMA quick_check(1)"));
    ASSIGN_OR_RETURN(const bool row, check.Step());
    if (!row || check.Text(0) != "ok") return absl::DataLossError(row ? check.Text(0) : "no answer to a check");
    return database;
  }
  ASSIGN_OR_RETURN(const int64_t tables, database->QueryInteger("SELECT count(*) FROM sqlite_master"));
  if (version != 0 || tables != 0) {
    return absl::DataLossError(absl::StrCat("it has version ", version, ", not ", kSchemaVersion));
  }
  RETURN_IF_ERROR(database->Execute(
      absl::StrCat("BEGIN;", kSchema, CidSegments::Schema(), "PRAGMA user_version=", kSchemaVersion, "; COMMIT;")));
  return database;
}

}  // namespace

int64_t CommitKey(const domain::AggregateRef& ref, const std::string& commit_id) {
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (const absl::string_view text :
       std::array<absl::string_view, 4>{ref.context, ref.aggregate, ref.entity_id, commit_id}) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    hash = (hash ^ 0xFF) * 0x100000001b3;  // A byte that is in no UTF-8.
  }
  return static_cast<int64_t>(hash);
}

absl::Status Store::Remove(const std::string& path) {
  for (const char* end : {"", "-wal", "-shm", "-journal"}) {
    std::error_code error;
    std::filesystem::remove(absl::StrCat(path, end), error);
    if (error) return absl::FailedPreconditionError(absl::StrCat("removing ", path, end, ": ", error.message()));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const Options& options) {
  std::unique_ptr<Store> store(new Store());
  absl::StatusOr<std::unique_ptr<Database>> database = OpenChecked(options);
  if (absl::IsDataLoss(database.status())) {
    base::LogWarn("index cannot be used: it is built anew", {{"path", options.path}, {"reason", database.status()}});
    RETURN_IF_ERROR(Remove(options.path));
    database = OpenChecked(options);
  }
  RETURN_IF_ERROR(database.status());
  store->database_ = *std::move(database);
  RETURN_IF_ERROR(store->Prepare());
  return store;
}

absl::Status Store::Prepare() {
  ASSIGN_OR_RETURN(put_position_, database_->Prepare("UPDATE streams SET incarnation=?2, sequence=?3, fingerprint=?4, "
                                                     "built=?5 WHERE id=?1"));
  ASSIGN_OR_RETURN(put_event_,
                   database_->Prepare("INSERT OR REPLACE INTO events(stream, sequence, type, entity, version, "
                                      "recorded, commit_id) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)"));
  ASSIGN_OR_RETURN(put_aggregate_,
                   database_->Prepare("INSERT OR REPLACE INTO aggregates(type, entity, version, sequence, modified, "
                                      "deleted, cid, tags, metadata) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"));
  ASSIGN_OR_RETURN(put_commit_, database_->Prepare("INSERT OR REPLACE INTO commits(key, version) VALUES(?1, ?2)"));
  ASSIGN_OR_RETURN(cids_, CidSegments::Open(database_.get()));
  return absl::OkStatus();
}

absl::StatusOr<std::map<std::string, StoredStream>> Store::ReadStreams() {
  std::map<std::string, StoredStream> streams;
  ASSIGN_OR_RETURN(Statement query,
                   database_->Prepare("SELECT name, id, incarnation, sequence, fingerprint, built FROM streams"));
  while (true) {
    ASSIGN_OR_RETURN(const bool row, query.Step());
    if (!row) return streams;
    StoredStream& stream = streams[query.Text(0)];
    stream.id = query.Integer(1);
    stream.position = {.incarnation = static_cast<uint64_t>(query.Integer(2)),
                       .sequence = static_cast<uint64_t>(query.Integer(3)),
                       .fingerprint = static_cast<uint64_t>(query.Integer(4))};
    stream.built = query.Integer(5) != 0;
  }
}

absl::Status Store::Begin() { return database_->Execute("BEGIN IMMEDIATE"); }

absl::Status Store::Commit() { return database_->Execute("COMMIT"); }

void Store::Abandon() {
  // Not in a transaction is what is wanted.
  database_->Execute("ROLLBACK").IgnoreError();
  types_.clear();
}

absl::Status Store::EmptyStream(int64_t id) {
  types_.clear();
  for (const char* sql : {"DELETE FROM aggregates WHERE type IN (SELECT id FROM types WHERE stream=?1)",
                          "DELETE FROM types WHERE stream=?1", "DELETE FROM events WHERE stream=?1"}) {
    ASSIGN_OR_RETURN(Statement statement, database_->Prepare(sql));
    statement.Bind(1, id);
    RETURN_IF_ERROR(statement.Run());
  }
  return cids_->Remove(id);
}

absl::StatusOr<StoredStream> Store::ResetStream(const std::string& name, uint64_t incarnation) {
  StoredStream stream;
  ASSIGN_OR_RETURN(Statement add,
                   database_->Prepare("INSERT INTO streams(name, incarnation, sequence, fingerprint, built) "
                                      "VALUES(?1, 0, 0, 0, 0) ON CONFLICT(name) DO NOTHING"));
  add.Bind(1, name);
  RETURN_IF_ERROR(add.Run());
  ASSIGN_OR_RETURN(Statement find, database_->Prepare("SELECT id FROM streams WHERE name=?1"));
  find.Bind(1, name);
  ASSIGN_OR_RETURN(const bool row, find.Step());
  if (!row) return absl::InternalError("a stream that was added is not there");
  stream.id = find.Integer(0);
  stream.position.incarnation = incarnation;
  RETURN_IF_ERROR(EmptyStream(stream.id));
  RETURN_IF_ERROR(PutPosition(stream));
  return stream;
}

absl::Status Store::RemoveStream(const std::string& name) {
  ASSIGN_OR_RETURN(const StoredStream stream, ResetStream(name, 0));
  ASSIGN_OR_RETURN(Statement remove, database_->Prepare("DELETE FROM streams WHERE id=?1"));
  remove.Bind(1, stream.id);
  return remove.Run();
}

absl::Status Store::PutPosition(const StoredStream& stream) {
  put_position_.Bind(1, stream.id);
  put_position_.Bind(2, static_cast<int64_t>(stream.position.incarnation));
  put_position_.Bind(3, static_cast<int64_t>(stream.position.sequence));
  put_position_.Bind(4, static_cast<int64_t>(stream.position.fingerprint));
  put_position_.Bind(5, stream.built ? 1 : 0);
  return put_position_.Run();
}

absl::StatusOr<int64_t> Store::TypeId(const std::string& context, const std::string& aggregate, int64_t stream) {
  std::pair<std::string, std::string> key(context, aggregate);
  if (const auto found = types_.find(key); found != types_.end()) return found->second;
  ASSIGN_OR_RETURN(Statement add, database_->Prepare("INSERT INTO types(context, aggregate, stream) VALUES(?1, ?2, ?3) "
                                                     "ON CONFLICT(context, aggregate) DO UPDATE SET stream=?3"));
  add.Bind(1, context);
  add.Bind(2, aggregate);
  add.Bind(3, stream);
  RETURN_IF_ERROR(add.Run());
  ASSIGN_OR_RETURN(Statement find, database_->Prepare("SELECT id FROM types WHERE context=?1 AND aggregate=?2"));
  find.Bind(1, context);
  find.Bind(2, aggregate);
  ASSIGN_OR_RETURN(const bool row, find.Step());
  if (!row) return absl::InternalError("a type that was added is not there");
  const int64_t id = find.Integer(0);
  types_.emplace(std::move(key), id);
  return id;
}

absl::Status Store::PutEvent(int64_t stream, int64_t type, const Entry& event) {
  put_event_.Bind(1, stream);
  put_event_.Bind(2, static_cast<int64_t>(event.sequence));
  put_event_.Bind(3, type);
  put_event_.Bind(4, event.ref.entity_id);
  put_event_.Bind(5, static_cast<int64_t>(event.version));
  put_event_.Bind(6, event.recorded_time.time_since_epoch().count());
  put_event_.Bind(7, event.commit_id);
  return put_event_.Run();
}

absl::Status Store::PutAggregate(int64_t type, const Entry& last) {
  put_aggregate_.Bind(1, type);
  put_aggregate_.Bind(2, last.ref.entity_id);
  put_aggregate_.Bind(3, static_cast<int64_t>(last.version));
  put_aggregate_.Bind(4, static_cast<int64_t>(last.sequence));
  put_aggregate_.Bind(5, last.recorded_time.time_since_epoch().count());
  put_aggregate_.Bind(6, last.tombstone ? 1 : 0);
  BindOptional(put_aggregate_, 7, last.cid);
  BindOptional(put_aggregate_, 8, last.tags);
  BindOptional(put_aggregate_, 9, last.metadata);
  return put_aggregate_.Run();
}

absl::Status Store::PutCommit(const Entry& last) {
  put_commit_.Bind(1, CommitKey(last.ref, last.commit_id));
  put_commit_.Bind(2, static_cast<int64_t>(last.version - last.part + 1));
  return put_commit_.Run();
}

}  // namespace persistd::index

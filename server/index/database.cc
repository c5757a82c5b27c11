#include "server/index/database.h"

#include <sqlite3.h>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace persistd::index {
namespace {

// How long a reader and the writer wait for each other; in WAL mode they hardly do.
constexpr int kBusyMs = 5000;
constexpr int kStepsBetweenLooks = 10'000;  // Of SQLite's machine: some 100 microseconds.

absl::Status ErrorOf(sqlite3* database, int code, absl::string_view what) {
  const std::string text =
      absl::StrCat(what, ": ", database != nullptr ? sqlite3_errmsg(database) : "", " (", sqlite3_errstr(code), ")");
  switch (code & 0xFF) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
      return absl::DataLossError(text);
    case SQLITE_FULL:
      return absl::ResourceExhaustedError(text);
    case SQLITE_INTERRUPT:
      return absl::CancelledError(text);
    default:
      return absl::InternalError(text);
  }
}

}  // namespace

void Statement::Finalize::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }

// Binding fails only for parameters that do not exist, which tests would meet at once, or without memory, which the
// next step meets.
void Statement::Bind(int parameter, int64_t value) { sqlite3_bind_int64(statement_.get(), parameter, value); }

void Statement::Bind(int parameter, absl::string_view text) {
  // A null pointer would bind NULL.
  sqlite3_bind_text(statement_.get(), parameter, text.empty() ? "" : text.data(), static_cast<int>(text.size()),
                    SQLITE_STATIC);
}

void Statement::BindBlob(int parameter, absl::string_view bytes) {
  sqlite3_bind_blob(statement_.get(), parameter, bytes.empty() ? "" : bytes.data(), static_cast<int>(bytes.size()),
                    SQLITE_STATIC);
}

void Statement::BindNull(int parameter) { sqlite3_bind_null(statement_.get(), parameter); }

absl::StatusOr<bool> Statement::Step() {
  const int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return ErrorOf(sqlite3_db_handle(statement_.get()), code, sqlite3_sql(statement_.get()));
}

absl::Status Statement::Run() {
  absl::StatusOr<bool> row = true;
  while (row.ok() && *row) row = Step();
  Reset();
  return row.status();
}

void Statement::Reset() { sqlite3_reset(statement_.get()); }

int64_t Statement::Integer(int column) const { return sqlite3_column_int64(statement_.get(), column); }

std::string Statement::Text(int column) const {
  const unsigned char* text = sqlite3_column_text(statement_.get(), column);
  if (text == nullptr) return "";
  return std::string(reinterpret_cast<const char*>(text),
                     static_cast<size_t>(sqlite3_column_bytes(statement_.get(), column)));
}

absl::string_view Statement::Blob(int column) const {
  const void* bytes = sqlite3_column_blob(statement_.get(), column);
  if (bytes == nullptr) return {};
  return {static_cast<const char*>(bytes), static_cast<size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

bool Statement::IsNull(int column) const { return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL; }

void Database::Close::operator()(sqlite3* database) const { sqlite3_close_v2(database); }

absl::StatusOr<std::unique_ptr<Database>> Database::Open(const Options& options) {
  sqlite3* raw = nullptr;
  const int flags = (options.read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE) |
                    SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
  const int code = sqlite3_open_v2(options.path.c_str(), &raw, flags, nullptr);
  std::unique_ptr<Database> database(new Database(raw));
  if (code != SQLITE_OK) return ErrorOf(raw, code, absl::StrCat("opening ", options.path));
  sqlite3_extended_result_codes(raw, 1);
  sqlite3_busy_timeout(raw, kBusyMs);
  const auto is_over = [](void* self) {
    const std::optional<base::SteadyTime>& stop_at = static_cast<Database*>(self)->stop_at_;
    return stop_at.has_value() && base::Clock::System().SteadyNow() >= *stop_at ? 1 : 0;
  };
  sqlite3_progress_handler(raw, kStepsBetweenLooks, is_over, database.get());
  // NORMAL: a power cut may lose the last transactions, which are read again, but never damages the file.
  RETURN_IF_ERROR(database->Execute(absl::StrCat("PRAGMA cache_size=-", options.cache_bytes / 1024,
                                                 "; PRAGMA synchronous=NORMAL; PRAGMA temp_store=FILE;")));
  return database;
}

absl::Status Database::Execute(const std::string& sql) {
  const int code = sqlite3_exec(database_.get(), sql.c_str(), nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : ErrorOf(database_.get(), code, sql);
}

absl::StatusOr<Statement> Database::Prepare(const std::string& sql) {
  sqlite3_stmt* raw = nullptr;
  const int code = sqlite3_prepare_v3(database_.get(), sql.c_str(), static_cast<int>(sql.size()),
                                      SQLITE_PREPARE_PERSISTENT, &raw, nullptr);
  if (code != SQLITE_OK) return ErrorOf(database_.get(), code, sql);
  return Statement(raw);
}

absl::StatusOr<int64_t> Database::QueryInteger(const std::string& sql) {
  ASSIGN_OR_RETURN(Statement statement, Prepare(sql));
  ASSIGN_OR_RETURN(const bool row, statement.Step());
  if (!row) return absl::NotFoundError(sql);
  return statement.Integer(0);
}

}  // namespace persistd::index

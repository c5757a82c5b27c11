// SQLite as values that clean up after themselves: a connection and its prepared statements. The only user of
// sqlite3.h. Each object belongs to one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/clock.h"

struct sqlite3;
struct sqlite3_stmt;

namespace persistd::index {

class Database;

// A prepared statement. Texts and blobs that are bound must live until it is reset or run to its end.
class Statement {
 public:
  Statement() = default;

  // Parameters count from 1.
  void Bind(int parameter, int64_t value);
  void Bind(int parameter, absl::string_view text);
  void BindBlob(int parameter, absl::string_view bytes);
  void BindNull(int parameter);

  // True: there is a row, whose columns count from 0.
  absl::StatusOr<bool> Step();
  // Runs it to its end, and makes it ready to be run again.
  absl::Status Run();
  void Reset();

  int64_t Integer(int column) const;
  std::string Text(int column) const;
  // Until the next step or reset.
  absl::string_view Blob(int column) const;
  bool IsNull(int column) const;

 private:
  friend class Database;
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}

  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

class Database {
 public:
  struct Options {
    std::string path;
    bool read_only = false;
    uint64_t cache_bytes = 16u << 20;
  };

  // DataLoss when the file is not a database, or a damaged one.
  static absl::StatusOr<std::unique_ptr<Database>> Open(const Options& options);

  // Runs statements that have no parameters and whose rows nobody wants.
  absl::Status Execute(const std::string& sql);
  absl::StatusOr<Statement> Prepare(const std::string& sql);
  // The single integer that `sql` returns.
  absl::StatusOr<int64_t> QueryInteger(const std::string& sql);
  // From then on what runs is cancelled. nullopt: never.
  void StopAt(std::optional<base::SteadyTime> deadline) { stop_at_ = deadline; }

 private:
  struct Close {
    void operator()(sqlite3* database) const;
  };
  explicit Database(sqlite3* database) : database_(database) {}

  std::optional<base::SteadyTime> stop_at_;
  std::unique_ptr<sqlite3, Close> database_;
};

}  // namespace persistd::index

// RETURN_IF_ERROR and ASSIGN_OR_RETURN for absl::Status, and their forms for coroutines (CO_...).
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define PERSISTD_CONCAT_INNER(a, b) a##b
#define PERSISTD_CONCAT(a, b) PERSISTD_CONCAT_INNER(a, b)

#define RETURN_IF_ERROR(expr)                          \
  do {                                                 \
    if (absl::Status macro_status_ = (expr); !macro_status_.ok()) return macro_status_; \
  } while (false)

#define PERSISTD_ASSIGN_OR_RETURN(tmp, lhs, expr, ret) \
  auto tmp = (expr);                                   \
  if (!tmp.ok()) ret tmp.status();                     \
  lhs = std::move(tmp).value()

#define ASSIGN_OR_RETURN(lhs, expr) \
  PERSISTD_ASSIGN_OR_RETURN(PERSISTD_CONCAT(statusor_, __COUNTER__), lhs, expr, return)

// As above, inside a coroutine. `expr` may contain co_await.
#define CO_RETURN_IF_ERROR(expr)                                  \
  do {                                                            \
    absl::Status macro_status_ = (expr);                          \
    if (!macro_status_.ok()) co_return macro_status_;             \
  } while (false)

#define CO_ASSIGN_OR_RETURN(lhs, expr) \
  PERSISTD_ASSIGN_OR_RETURN(PERSISTD_CONCAT(statusor_, __COUNTER__), lhs, expr, co_return)

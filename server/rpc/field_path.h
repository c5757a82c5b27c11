// Where in a request a value stands, such as `events[2].metadata.custom`: a chain of names on the stack, rendered only
// when there is an error to tell. A path must not outlive its parent.
#pragma once

#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace persistd::rpc {

class FieldPath {
 public:
  // Of the request itself: its children begin the path.
  FieldPath() = default;
  explicit FieldPath(absl::string_view name) : name_(name) {}

  FieldPath Child(absl::string_view name) const { return FieldPath(this, name, kNoIndex); }
  FieldPath At(int index) const { return FieldPath(parent_, name_, index); }

  std::string ToString() const {
    std::string text = parent_ == nullptr ? std::string() : parent_->ToString();
    absl::StrAppend(&text, text.empty() ? "" : ".", name_);
    if (index_ != kNoIndex) absl::StrAppend(&text, "[", index_, "]");
    return text;
  }

 private:
  static constexpr int kNoIndex = -1;

  FieldPath(const FieldPath* parent, absl::string_view name, int index) : parent_(parent), name_(name), index_(index) {}

  const FieldPath* parent_ = nullptr;
  absl::string_view name_;
  int index_ = kNoIndex;
};

}  // namespace persistd::rpc

#include <utility>

#include "server/transform/worker.h"

namespace persistd::transform {
namespace {

void AppendNumber(uint64_t number, int bytes, std::string& out) {
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(number >> (8 * i) & 0xFF);
}

uint64_t NumberOf(absl::string_view bytes) {
  uint64_t number = 0;
  for (size_t i = bytes.size(); i-- > 0;) number = number << 8 | static_cast<unsigned char>(bytes[i]);
  return number;
}

}  // namespace

void MessageWriter::Number32(uint32_t number) { AppendNumber(number, 4, bytes_); }
void MessageWriter::Number64(uint64_t number) { AppendNumber(number, 8, bytes_); }
void MessageWriter::Text(absl::string_view text) {
  Number32(static_cast<uint32_t>(text.size()));
  bytes_.append(text.data(), text.size());
}

std::string MessageWriter::Take() {
  std::string size;
  AppendNumber(bytes_.size() - 4, 4, size);
  bytes_.replace(0, 4, size);
  return std::move(bytes_);
}

absl::string_view MessageReader::Take(size_t size) {
  if (size > rest_.size()) {
    ok_ = false;
    rest_ = {};
    return {};
  }
  const absl::string_view taken = rest_.substr(0, size);
  rest_.remove_prefix(size);
  return taken;
}

char MessageReader::Byte() {
  const absl::string_view byte = Take(1);
  return byte.empty() ? '\0' : byte.front();
}
uint32_t MessageReader::Number32() { return static_cast<uint32_t>(NumberOf(Take(4))); }
uint64_t MessageReader::Number64() { return NumberOf(Take(8)); }
absl::string_view MessageReader::Text() { return Take(Number32()); }

}  // namespace persistd::transform

#include "server/ipld/dag_cbor_writer.h"

#include <bit>

namespace persistd::ipld {
namespace {

void AppendBigEndian(uint64_t value, int bytes, std::string& out) {
  for (int i = bytes - 1; i >= 0; --i) out += static_cast<char>(value >> (8 * i) & 0xFF);
}

}  // namespace

bool KeyComesBefore(absl::string_view a, absl::string_view b) {
  return a.size() != b.size() ? a.size() < b.size() : a < b;
}

void DagCborWriter::Head(int major, uint64_t argument) {
  const auto head = [this, major](int low) { out_ += static_cast<char>(major << 5 | low); };
  if (argument < 24) {
    head(static_cast<int>(argument));
  } else if (argument <= 0xFF) {
    head(24);
    AppendBigEndian(argument, 1, out_);
  } else if (argument <= 0xFFFF) {
    head(25);
    AppendBigEndian(argument, 2, out_);
  } else if (argument <= 0xFFFFFFFF) {
    head(26);
    AppendBigEndian(argument, 4, out_);
  } else {
    head(27);
    AppendBigEndian(argument, 8, out_);
  }
}

void DagCborWriter::Int(int64_t value) {
  if (value < 0) {
    Negative(~static_cast<uint64_t>(value));
  } else {
    Uint(static_cast<uint64_t>(value));
  }
}

void DagCborWriter::Double(double value) {
  out_ += static_cast<char>(0xFB);
  AppendBigEndian(std::bit_cast<uint64_t>(value), 8, out_);
}

void DagCborWriter::Bytes(absl::string_view bytes) {
  Head(2, bytes.size());
  out_.append(bytes.data(), bytes.size());
}

void DagCborWriter::Text(absl::string_view text) {
  Head(3, text.size());
  out_.append(text.data(), text.size());
}

void DagCborWriter::Link(const AnyCid& cid) {
  Head(6, kLinkTag);
  Head(2, cid.bytes().size() + 1);
  out_ += '\0';  // Multibase identity: binary.
  out_ += cid.bytes();
}

}  // namespace persistd::ipld

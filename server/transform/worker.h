// The other side of a Runner: a process that runs jq programs and nothing else.
//
// It reads requests from one socket and answers each on it, in order. It has no environment, no other descriptors and a
// limit on its memory; whoever started it kills it when a program takes too long. When the socket closes it ends.
//
// A message: its size as 4 bytes, then fields; a text is its size as 4 bytes, then its bytes; numbers are
// little-endian.
//   define:  'd', program (4 bytes), source           → code (1 byte), message
//   fold:    'f', program, most bytes of the new state (8 bytes), state, events (4 bytes), for each: fields, data
//                                                     → code, failed event (4 bytes), new state or message
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace persistd::transform {

// The flag of the program that runs a worker; `=<descriptor>,<most bytes of memory>` follows.
inline constexpr absl::string_view kWorkerFlag = "--transform-worker=";

// Runs a worker when the arguments of main ask for one, and returns its exit code; nullopt: they do not.
std::optional<int> RunWorkerIfAsked(int argc, char** argv);

// How a worker ends on its own.
inline constexpr int kExitClosed = 0;
inline constexpr int kExitBroken = 3;    // What it read is no request.
inline constexpr int kExitNoMemory = 4;  // A program needed more than it may have.

// Parts of the messages.
inline constexpr char kDefine = 'd';
inline constexpr char kFold = 'f';
enum class Code : uint8_t { kOk = 0, kFailed = 1, kTooLarge = 2 };

class MessageWriter {
 public:
  MessageWriter() : bytes_(4, '\0') {}
  void Byte(char byte) { bytes_ += byte; }
  void Number32(uint32_t number);
  void Number64(uint64_t number);
  void Text(absl::string_view text);
  // The message with its size.
  std::string Take();

 private:
  std::string bytes_;
};

// Reads the fields of a message without its size. What is missing reads as empty or 0 and makes ok() false.
class MessageReader {
 public:
  explicit MessageReader(absl::string_view message) : rest_(message) {}
  char Byte();
  uint32_t Number32();
  uint64_t Number64();
  absl::string_view Text();
  bool ok() const { return ok_; }

 private:
  absl::string_view Take(size_t size);

  absl::string_view rest_;
  bool ok_ = true;
};

}  // namespace persistd::transform

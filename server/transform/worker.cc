#include "server/transform/worker.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <memory>
#include <new>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/transform/jq_program.h"

namespace persistd::transform {
namespace {

// A sanitizer maps terabytes of shadow memory.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kLimitAddressSpace = false;
#else
constexpr bool kLimitAddressSpace = true;
#endif
// What the process itself takes: its code, libraries and stack.
constexpr uint64_t kOwnBytes = 192u << 20;

bool ReadFully(int fd, char* data, size_t size) {
  while (size > 0) {
    const ssize_t count = read(fd, data, size);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    data += count;
    size -= static_cast<size_t>(count);
  }
  return true;
}

bool WriteFully(int fd, absl::string_view data) {
  while (!data.empty()) {
    const ssize_t count = send(fd, data.data(), data.size(), MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    data.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

Code CodeOf(const absl::Status& status) {
  if (status.ok()) return Code::kOk;
  return absl::IsOutOfRange(status) ? Code::kTooLarge : Code::kFailed;
}

class Worker {
 public:
  // nullopt: this is no request.
  std::optional<std::string> Answer(absl::string_view request) {
    MessageReader reader(request);
    const char kind = reader.Byte();
    const uint32_t program = reader.Number32();
    if (kind == kDefine) return Define(program, reader);
    if (kind == kFold && programs_.contains(program)) return Fold(*programs_[program], reader);
    return std::nullopt;
  }

 private:
  std::optional<std::string> Define(uint32_t number, MessageReader& reader) {
    const absl::string_view source = reader.Text();
    if (!reader.ok()) return std::nullopt;
    absl::StatusOr<std::unique_ptr<JqProgram>> program = JqProgram::Compile(source);
    MessageWriter answer;
    answer.Byte(static_cast<char>(CodeOf(program.status())));
    answer.Text(program.status().message());
    if (program.ok()) programs_[number] = *std::move(program);
    return answer.Take();
  }

  static std::optional<std::string> Fold(JqProgram& program, MessageReader& reader) {
    const uint64_t max_bytes = reader.Number64();
    absl::Status status = program.Begin(reader.Text());
    const uint32_t events = reader.Number32();
    uint32_t event = 0;
    for (; event < events && status.ok() && reader.ok(); ++event) {
      const absl::string_view fields = reader.Text();
      const absl::string_view data = reader.Text();
      if (!reader.ok()) return std::nullopt;
      status = program.Step(fields, data);
      if (!status.ok()) break;
    }
    if (!reader.ok()) return std::nullopt;
    std::string text;
    if (status.ok()) {
      absl::StatusOr<std::string> state = program.Finish(max_bytes);
      status = state.status();
      if (state.ok()) text = *std::move(state);
    }
    MessageWriter answer;
    answer.Byte(static_cast<char>(CodeOf(status)));
    answer.Number32(event);
    answer.Text(status.ok() ? absl::string_view(text) : status.message());
    return answer.Take();
  }

  std::map<uint32_t, std::unique_ptr<JqProgram>> programs_;
};

void LimitMemory(uint64_t bytes) {
  const rlimit none{.rlim_cur = 0, .rlim_max = 0};
  setrlimit(RLIMIT_CORE, &none);  // A crash is an answer here.
  if (!kLimitAddressSpace) return;
  const rlimit limit{.rlim_cur = bytes + kOwnBytes, .rlim_max = bytes + kOwnBytes};
  setrlimit(RLIMIT_AS, &limit);
}

int RunWorker(int fd) {
  Worker worker;
  std::string request;
  while (true) {
    char size_bytes[4];
    if (!ReadFully(fd, size_bytes, sizeof(size_bytes))) return kExitClosed;
    request.resize(MessageReader(absl::string_view(size_bytes, sizeof(size_bytes))).Number32());
    if (!ReadFully(fd, request.data(), request.size())) return kExitClosed;
    const std::optional<std::string> answer = worker.Answer(request);
    if (!answer.has_value()) return kExitBroken;
    if (!WriteFully(fd, *answer)) return kExitClosed;
  }
}

}  // namespace

std::optional<int> RunWorkerIfAsked(int argc, char** argv) {
  if (argc != 2 || !absl::StartsWith(argv[1], kWorkerFlag)) return std::nullopt;
  const std::vector<std::string> parts = absl::StrSplit(absl::string_view(argv[1]).substr(kWorkerFlag.size()), ',');
  int fd = -1;
  uint64_t memory = 0;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &fd) || !absl::SimpleAtoi(parts[1], &memory)) return kExitBroken;
  LimitMemory(memory);
  std::set_new_handler([] { _exit(kExitNoMemory); });
  return RunWorker(fd);
}

}  // namespace persistd::transform

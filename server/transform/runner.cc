#include "server/transform/runner.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "absl/strings/str_cat.h"
#include "server/base/logging.h"
#include "server/base/process.h"
#include "server/base/status_macros.h"
#include "server/base/unique_fd.h"
#include "server/transform/worker.h"

namespace persistd::transform {
namespace {

constexpr std::chrono::seconds kExitPatience{1};  // A closed socket means that the process ends, or has.
// An answer holds a state or an error's text, and little else.
constexpr uint64_t kMostBesideState = 1u << 20;

FoldOutput TooLate() { return {.status = absl::DeadlineExceededError("the program's turn did not come in time")}; }

}  // namespace

// A worker process and the socket to it; at most one request is under way. One thread, except Kill.
class Runner::Worker {
 public:
  explicit Worker(const Options& options) : options_(options) {}

  FoldOutput Run(const Job& job) {
    FoldOutput output;
    output.status = Prepare(*job.program);
    if (!output.status.ok() || job.request.empty()) return output;
    absl::StatusOr<std::string> answer = Exchange(job.request);
    if (!answer.ok()) {
      output.status = answer.status();
      return output;
    }
    MessageReader reader(*answer);
    const Code code = static_cast<Code>(reader.Byte());
    const size_t event = reader.Number32();
    const absl::string_view text = reader.Text();
    if (code == Code::kOk && reader.ok()) {
      output.state = std::string(text);
    } else {
      output.status = code == Code::kTooLarge ? absl::OutOfRangeError(text) : absl::InvalidArgumentError(text);
      output.failed = event;
    }
    return output;
  }

  // From any thread: what runs fails, and nothing runs any more.
  void Kill() {
    base::MutexLock lock(mutex_);
    killed_ = true;
    if (process_ != nullptr) process_->Signal(SIGKILL);
  }

 private:
  // Makes sure that the process runs and knows the program.
  absl::Status Prepare(const Program& program) {
    if (!socket_.valid()) RETURN_IF_ERROR(StartProcess());
    if (known_.contains(program.number)) return absl::OkStatus();
    MessageWriter request;
    request.Byte(kDefine);
    request.Number32(program.number);
    request.Text(program.source);
    ASSIGN_OR_RETURN(const std::string answer, Exchange(request.Take()));
    MessageReader reader(answer);
    const Code code = static_cast<Code>(reader.Byte());
    const absl::string_view message = reader.Text();
    if (code != Code::kOk) return absl::InvalidArgumentError(message);
    known_.insert(program.number);
    return absl::OkStatus();
  }

  absl::Status StartProcess() {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
      return absl::UnavailableError(
          absl::StrCat("no socket for a transform worker: ", absl::ErrnoToStatus(errno, "").message()));
    }
    base::UniqueFd ours(ends[0]);
    const base::UniqueFd theirs(ends[1]);
    base::Process::Options start;
    start.command = {options_.worker_program, absl::StrCat(kWorkerFlag, theirs.get(), ",", options_.memory_bytes)};
    start.environment.emplace();  // Nothing of ours may leak into a program.
    start.inherited_fds = {theirs.get()};
    absl::StatusOr<std::unique_ptr<base::Process>> process = base::Process::Start(std::move(start));
    if (!process.ok()) return absl::UnavailableError(process.status().message());
    base::MutexLock lock(mutex_);
    process_ = *std::move(process);
    if (killed_) process_->Signal(SIGKILL);
    socket_ = std::move(ours);
    known_.clear();
    return absl::OkStatus();
  }

  // Sends a request and waits for the answer. When that does not come in time, or cannot come, the process is ended.
  absl::StatusOr<std::string> Exchange(absl::string_view request) {
    const base::SteadyTime until = base::Clock::System().SteadyNow() + options_.time_limit;
    bool in_time = Send(request, until);
    std::string answer(4, '\0');
    in_time = in_time && Receive(answer, until);
    if (in_time) {
      const uint64_t size = MessageReader(answer).Number32();
      // What a worker says may be what a program made of its memory.
      in_time = size <= options_.max_state_bytes + kMostBesideState;
      if (in_time) {
        answer.resize(size);
        in_time = Receive(answer, until);
      }
    }
    if (in_time) return answer;
    return WhyEnded(base::Clock::System().SteadyNow() >= until);
  }

  bool Wait(short events, base::SteadyTime until) const {
    while (true) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - base::Clock::System().SteadyNow()).count();
      if (left <= 0) return false;
      pollfd poll_fd{.fd = socket_.get(), .events = events, .revents = 0};
      const int ready = poll(&poll_fd, 1, static_cast<int>(left));
      if (ready > 0) return true;
      if (ready < 0 && errno != EINTR) return false;
    }
  }

  bool Send(absl::string_view data, base::SteadyTime until) const {
    while (!data.empty()) {
      const ssize_t count = send(socket_.get(), data.data(), data.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (count > 0) {
        data.remove_prefix(static_cast<size_t>(count));
      } else if (count == 0 || (errno != EAGAIN && errno != EINTR) || !Wait(POLLOUT, until)) {
        return false;
      }
    }
    return true;
  }

  bool Receive(std::string& into, base::SteadyTime until) const {
    for (size_t got = 0; got < into.size();) {
      if (!Wait(POLLIN, until)) return false;
      const ssize_t count = recv(socket_.get(), into.data() + got, into.size() - got, MSG_DONTWAIT);
      if (count > 0) {
        got += static_cast<size_t>(count);
      } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
        return false;
      }
    }
    return true;
  }

  absl::Status WhyEnded(bool late) {
    std::unique_ptr<base::Process> process;
    bool killed;
    {
      base::MutexLock lock(mutex_);
      process = std::move(process_);
      killed = killed_;
    }
    socket_.Reset();
    known_.clear();
    if (killed) return absl::UnavailableError("the daemon is shutting down");
    if (late) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the program did not end within ", options_.time_limit.count(), " ms"));
    }
    const std::optional<base::ExitStatus> ended = process->WaitUntil(base::Clock::System().SteadyNow() + kExitPatience);
    base::LogWarn("transform worker ended", {{"how", ended.has_value() ? ended->ToString() : "killed"}});
    // jq aborts when it gets no memory.
    if (ended.has_value() && (ended->code == kExitNoMemory || ended->signal == SIGABRT)) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the program needs more than ", options_.memory_bytes, " bytes of memory, or made jq give up"));
    }
    return absl::ResourceExhaustedError(
        absl::StrCat("the program made jq crash (", ended.has_value() ? ended->ToString() : "no exit", ")"));
  }

  const Options& options_;
  base::UniqueFd socket_;
  std::set<uint32_t> known_;  // Programs that the process has compiled.
  base::Mutex mutex_;
  std::unique_ptr<base::Process> process_ GUARDED_BY(mutex_);
  bool killed_ GUARDED_BY(mutex_) = false;
};

Runner::Runner(Options options) : options_(std::move(options)) {
  for (int i = 0; i < std::max(options_.workers, 1); ++i) {
    threads_.emplace_back([this] { Serve(); });
    pthread_setname_np(threads_.back().native_handle(), "transform");
  }
}

Runner::~Runner() { Stop(); }

void Runner::Stop() {
  std::deque<Job> dropped;
  std::vector<Worker*> running;
  {
    base::MutexLock lock(mutex_);
    stopping_ = true;
    dropped.swap(jobs_);
    waiting_bytes_ = 0;
    for (Worker* worker : running_) worker->Kill();
    changed_.NotifyAll();
  }
  for (Job& job : dropped) job.promise.TrySet({.status = absl::UnavailableError("the daemon is shutting down")});
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

std::optional<Runner::Job> Runner::NextJob() {
  base::MutexLock lock(mutex_);
  while (jobs_.empty() && !stopping_) changed_.Wait(mutex_);
  if (stopping_) return std::nullopt;
  Job job = std::move(jobs_.front());
  jobs_.pop_front();
  waiting_bytes_ -= job.request.size();
  return job;
}

std::deque<Runner::Job> Runner::TakeLate() {
  const base::SteadyTime now = base::Clock::System().SteadyNow();
  std::deque<Job> late;
  std::deque<Job> rest;
  for (Job& job : jobs_) {
    std::deque<Job>& into = job.deadline <= now ? late : rest;
    if (job.deadline <= now) waiting_bytes_ -= job.request.size();
    into.push_back(std::move(job));
  }
  jobs_ = std::move(rest);
  return late;
}

void Runner::Serve() {
  Worker worker(options_);
  {
    base::MutexLock lock(mutex_);
    running_.push_back(&worker);
  }
  while (std::optional<Job> job = NextJob()) {
    if (base::Clock::System().SteadyNow() >= job->deadline) {
      job->promise.TrySet(TooLate());
      continue;
    }
    job->promise.TrySet(worker.Run(*job));
    std::deque<Job> late;
    {
      base::MutexLock lock(mutex_);
      late = TakeLate();
    }
    for (Job& waited : late) waited.promise.TrySet(TooLate());
  }
  base::MutexLock lock(mutex_);
  std::erase(running_, &worker);
}

base::Future<FoldOutput> Runner::Submit(Job job) {
  base::Future<FoldOutput> future = job.promise.future();
  absl::Status refused;
  {
    base::MutexLock lock(mutex_);
    if (stopping_) {
      refused = absl::UnavailableError("the daemon is shutting down");
    } else if (jobs_.size() >= options_.max_waiting) {
      refused = absl::UnavailableError(absl::StrCat(jobs_.size(), " programs wait already"));
    } else if (!jobs_.empty() && waiting_bytes_ + job.request.size() > options_.max_waiting_bytes) {
      refused = absl::UnavailableError(absl::StrCat("programs with ", waiting_bytes_, " bytes of input wait already"));
    } else {
      waiting_bytes_ += job.request.size();
      jobs_.push_back(job);
      changed_.NotifyOne();
    }
  }
  if (!refused.ok()) job.promise.TrySet({.status = refused});
  return future;
}

absl::StatusOr<ProgramPtr> Runner::Compile(std::string source) {
  auto program = std::make_shared<Program>();
  program->source = std::move(source);
  {
    base::MutexLock lock(mutex_);
    program->number = next_number_++;
  }
  Job job;
  job.program = program;
  job.deadline = base::SteadyTime::max();
  auto wait = [](base::Future<FoldOutput> future) -> base::Task<FoldOutput> { co_return co_await future; };
  const FoldOutput output = base::BlockOn(wait(Submit(std::move(job))));
  if (!output.status.ok()) return output.status;
  return program;
}

base::Future<FoldOutput> Runner::Fold(ProgramPtr program, std::string state, std::vector<FoldInput> events,
                                      base::SteadyTime deadline) {
  MessageWriter request;
  request.Byte(kFold);
  request.Number32(program->number);
  request.Number64(options_.max_state_bytes);
  request.Text(state);
  request.Number32(static_cast<uint32_t>(events.size()));
  for (const FoldInput& event : events) {
    request.Text(event.fields);
    request.Text(event.data);
  }
  Job job;
  job.program = std::move(program);
  job.request = request.Take();
  job.deadline = deadline;
  return Submit(std::move(job));
}

}  // namespace persistd::transform

// With the real nats-server.
#include "server/jetstream/embedded_server.h"

#include <fcntl.h>
#include <nats/nats.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/base/mutex.h"
#include "server/base/process.h"
#include "server/base/unique_fd.h"
#include "tests/testing/catch.h"
#include "tests/testing/files.h"
#include "tests/testing/must.h"
#include "tests/testing/ports.h"
#include "tests/testing/runfiles.h"
#include "tests/testing/temp_dir.h"

namespace persistd::jetstream {
namespace {

using std::chrono::milliseconds;
using testing::Must;
using testing::TempDir;

std::string RealBinary() { return Must(testing::Runfile("tools/nats-server")); }

bool Mentions(const absl::Status& status, const std::string& text) { return absl::StrContains(status.message(), text); }

// The events of a server, to wait for. Thread-safe.
class Events {
 public:
  std::function<void(absl::string_view)> Recorder() {
    return [this](absl::string_view event) {
      base::MutexLock lock(mutex_);
      events_.emplace_back(event);
      changed_.NotifyAll();
    };
  }
  // Waits until `event` has come `times` times.
  void WaitFor(const std::string& event, long times) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    base::MutexLock lock(mutex_);
    while (std::count(events_.begin(), events_.end(), event) < times) {
      if (!changed_.WaitUntil(mutex_, deadline)) throw std::runtime_error("waited in vain for " + event);
    }
  }

 private:
  base::Mutex mutex_;
  base::CondVar changed_;
  std::vector<std::string> events_ GUARDED_BY(mutex_);
};

// A connection of nats.c.
class Client {
 public:
  Client(const EmbeddedServer& server, const std::string& user, const std::string& password) {
    natsOptions* options = nullptr;
    natsOptions_Create(&options);
    natsOptions_SetURL(options, server.url().c_str());
    if (!user.empty()) natsOptions_SetUserInfo(options, user.c_str(), password.c_str());
    natsOptions_SetAllowReconnect(options, false);
    status_ = natsConnection_Connect(&connection_, options);
    if (status_ == NATS_OK) status_ = natsConnection_JetStream(&js_, connection_, nullptr);
    natsOptions_Destroy(options);
  }
  explicit Client(const EmbeddedServer& server) : Client(server, server.user(), server.password()) {}
  ~Client() {
    jsCtx_Destroy(js_);
    natsConnection_Destroy(connection_);
  }

  natsStatus status() const { return status_; }
  natsStatus AddStream() {
    const char* subjects[] = {"s"};
    jsStreamConfig config;
    jsStreamConfig_Init(&config);
    config.Name = "S";
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    return js_AddStream(nullptr, js_, &config, nullptr, nullptr);
  }
  natsStatus Publish(const std::string& text) {
    return js_Publish(nullptr, js_, "s", text.data(), static_cast<int>(text.size()), nullptr, nullptr);
  }
  std::string Read(uint64_t sequence) {
    natsMsg* message = nullptr;
    if (js_GetMsg(&message, js_, "S", sequence, nullptr, nullptr) != NATS_OK) return "(none)";
    std::string text(natsMsg_GetData(message), static_cast<size_t>(natsMsg_GetDataLength(message)));
    natsMsg_Destroy(message);
    return text;
  }

 private:
  natsStatus status_;
  natsConnection* connection_ = nullptr;
  jsCtx* js_ = nullptr;
};

// An executable shell script.
std::string Script(const TempDir& dir, const std::string& name, const std::string& text) {
  Must(testing::WriteFile(dir.File(name), "#!/bin/sh\n" + text));
  chmod(dir.File(name).c_str(), 0755);
  return dir.File(name);
}

TEST_CASE("An embedded server starts, wants its credentials, and is gone after Stop", "[jetstream]") {
  const TempDir dir;
  // A name that the configuration file must escape.
  const std::string folder = dir.File("a \"quoted\" back\\slash $HOME");
  Events events;
  auto server = Must(EmbeddedServer::Create({.binary = RealBinary(), .dir = folder, .on_event = events.Recorder()}));
  REQUIRE(server->health().ok());
  REQUIRE(absl::StartsWith(server->url(), "nats://127.0.0.1:"));
  REQUIRE(server->password().size() == 48);
  REQUIRE(absl::StartsWith(server->version(), "2."));

  REQUIRE(Client(*server, "", "").status() == NATS_CONNECTION_AUTH_FAILED);
  REQUIRE(Client(*server, server->user(), "wrong").status() == NATS_CONNECTION_AUTH_FAILED);
  Client client(*server);
  REQUIRE(client.status() == NATS_OK);
  REQUIRE(client.AddStream() == NATS_OK);

  struct stat info;
  REQUIRE(stat(folder.c_str(), &info) == 0);
  REQUIRE((info.st_mode & 0777) == 0700);
  REQUIRE(stat((folder + "/nats-server.conf").c_str(), &info) == 0);
  REQUIRE((info.st_mode & 0777) == 0600);
  REQUIRE_FALSE(absl::StrContains(testing::ReadFile(folder + "/nats-server.log"), server->password()));
  REQUIRE(absl::StrContains(testing::ReadFile(folder + "/nats-server.conf"), "sync_interval: \"always\""));

  const pid_t pid = server->pid();
  server->Stop();
  REQUIRE(kill(pid, 0) != 0);
  REQUIRE(server->pid() == 0);
  REQUIRE(absl::IsUnavailable(server->health()));
  server->Stop();
  events.WaitFor("started", 1);
  events.WaitFor("stopped", 1);
}

TEST_CASE("Every start has its own password", "[jetstream]") {
  const TempDir dir;
  const auto first = Must(EmbeddedServer::Create({.binary = RealBinary(), .dir = dir.File("n")}));
  const std::string password = first->password();
  first->Stop();
  // The stopped object still holds the folder's lock.
  REQUIRE(absl::IsFailedPrecondition(EmbeddedServer::Create({.binary = RealBinary(), .dir = dir.File("n")}).status()));
}

TEST_CASE("A killed server comes back on its port with what it acknowledged", "[jetstream]") {
  const TempDir dir;
  Events events;
  const auto server =
      Must(EmbeddedServer::Create({.binary = RealBinary(), .dir = dir.File("n"), .on_event = events.Recorder()}));
  const std::string url = server->url();
  {
    Client client(*server);
    REQUIRE(client.AddStream() == NATS_OK);
    REQUIRE(client.Publish("kept") == NATS_OK);
  }
  for (int round = 1; round <= 2; ++round) {
    const pid_t pid = server->pid();
    REQUIRE(kill(pid, SIGKILL) == 0);
    events.WaitFor("started", round + 1);
    REQUIRE(server->pid() != pid);
    REQUIRE(server->url() == url);
    REQUIRE(server->health().ok());
    REQUIRE(Client(*server).Read(1) == "kept");
  }
}

TEST_CASE("A killed daemon leaves no server behind and the next one has its data", "[jetstream]") {
  const TempDir dir;
  int fds[2];
  REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
  const base::UniqueFd read_end(fds[0]);
  const base::UniqueFd write_end(fds[1]);
  const auto daemon = Must(base::Process::Start(
      {.command = {Must(testing::Runfile("persistd/tests/server/jetstream/embedded_server_holder")), dir.File("n"),
                   RealBinary()},
       .output_fd = write_end.get()}));
  // Its log lines go to the same pipe; the process id is a line of digits.
  int pid = 0;
  std::string line;
  for (char c; pid == 0 && read(read_end.get(), &c, 1) == 1; line += c) {
    if (c == '\n' && (absl::SimpleAtoi(line, &pid) || !line.empty())) line.clear();
  }
  REQUIRE(pid > 0);

  const auto busy = EmbeddedServer::Create({.binary = RealBinary(), .dir = dir.File("n")});
  REQUIRE(absl::IsFailedPrecondition(busy.status()));
  REQUIRE(Mentions(busy.status(), "another daemon uses this data folder"));
  REQUIRE(Mentions(busy.status(), absl::StrCat(dir.File("n"), "/LOCK is locked by process ", daemon->pid())));

  const base::UniqueFd server_end(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  REQUIRE(server_end.valid());
  daemon->Signal(SIGKILL);
  pollfd ended = {.fd = server_end.get(), .events = POLLIN, .revents = 0};
  REQUIRE(poll(&ended, 1, 20'000) == 1);

  const auto next = Must(EmbeddedServer::Create({.binary = RealBinary(), .dir = dir.File("n")}));
  REQUIRE(next->pid() != pid);
  REQUIRE(Client(*next).status() == NATS_OK);
}

TEST_CASE("A server that keeps dying is reported with the end of its log, and tried again", "[jetstream]") {
  const TempDir dir;
  const std::string binary =
      Script(dir, "flaky",
             absl::StrCat("if [ \"$1\" != --version ] && [ -e ", dir.File("broken"),
                          " ]; then echo 'the store is broken' >&2; exit 3; fi\nexec ", RealBinary(), " \"$@\"\n"));
  Events events;
  const auto server =
      Must(EmbeddedServer::Create({.binary = binary, .dir = dir.File("n"), .on_event = events.Recorder()}));
  Must(testing::WriteFile(dir.File("broken"), ""));
  REQUIRE(kill(server->pid(), SIGKILL) == 0);
  events.WaitFor("crash-looping", 1);
  REQUIRE(server->pid() == 0);
  REQUIRE(absl::IsUnavailable(server->health()));
  REQUIRE(Mentions(server->health(), "times in a row"));
  REQUIRE(Mentions(server->health(), "exit code 3"));
  REQUIRE(Mentions(server->health(), "the store is broken"));

  std::filesystem::remove(dir.File("broken"));
  events.WaitFor("started", 2);
  REQUIRE(server->health().ok());
  REQUIRE(Client(*server).status() == NATS_OK);
}

TEST_CASE("A crash-looping server can be stopped", "[jetstream]") {
  const TempDir dir;
  const std::string binary = Script(dir, "flaky",
                                    absl::StrCat("[ \"$1\" != --version ] && [ -e ", dir.File("broken"),
                                                 " ] && exit 3\nexec ", RealBinary(), " \"$@\"\n"));
  Events events;
  const auto server =
      Must(EmbeddedServer::Create({.binary = binary, .dir = dir.File("n"), .on_event = events.Recorder()}));
  Must(testing::WriteFile(dir.File("broken"), ""));
  REQUIRE(kill(server->pid(), SIGKILL) == 0);
  events.WaitFor("died", 1);
  server->Stop();
  REQUIRE(server->health().message() == "nats-server is stopped");
}

TEST_CASE("Programs that are not a usable nats-server are refused with the reason", "[jetstream]") {
  const TempDir dir;
  const auto refusal = [&](const std::string& binary) {
    return EmbeddedServer::Create({.binary = binary, .dir = dir.File("n")}).status();
  };
  REQUIRE(absl::IsNotFound(refusal("/no/such/nats-server")));
  REQUIRE(Mentions(refusal("/no/such/nats-server"), "/no/such/nats-server"));
  REQUIRE(Mentions(refusal("/bin/true"), "/bin/true is not nats-server"));

  const std::string old = Script(dir, "old", "echo 'nats-server: v2.9.10'\n");
  REQUIRE(absl::IsFailedPrecondition(refusal(old)));
  REQUIRE(Mentions(refusal(old), old + ": nats-server 2.9.10 does not keep"));
  REQUIRE(Mentions(refusal(old), "install nats-server 2.12.14"));

  const std::string failing =
      Script(dir, "failing", "[ \"$1\" = --version ] && echo 'nats-server: v2.15.1' && exit 0\necho boom; exit 9\n");
  REQUIRE(absl::IsUnavailable(refusal(failing)));
  REQUIRE(Mentions(refusal(failing), "ended with exit code 9 while starting"));
  REQUIRE(Mentions(refusal(failing), "boom"));
}

TEST_CASE("A server that hangs while starting is given up", "[jetstream]") {
  const TempDir dir;
  const std::string hanging =
      Script(dir, "hanging", "[ \"$1\" = --version ] && echo 'nats-server: v2.15.1' && exit 0\nexec sleep 1000\n");
  const absl::Status hung =
      EmbeddedServer::Create({.binary = hanging, .dir = dir.File("n"), .start_timeout = milliseconds(200)}).status();
  REQUIRE(absl::IsUnavailable(hung));
  REQUIRE(Mentions(hung, "shows no progress"));
  const absl::Status cancelled =
      EmbeddedServer::Create({.binary = hanging, .dir = dir.File("n"), .cancelled = [] { return true; }}).status();
  REQUIRE(absl::IsCancelled(cancelled));
}

TEST_CASE("A server that logs or works while it recovers is waited for", "[jetstream]") {
  const TempDir dir;
  const std::string chatty = Script(dir, "chatty",
                                    absl::StrCat("[ \"$1\" = --version ] || for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 "
                                                 "15; do echo recovering; sleep 0.1; done\nexec ",
                                                 RealBinary(), " \"$@\"\n"));
  REQUIRE(EmbeddedServer::Create({.binary = chatty, .dir = dir.File("n"), .start_timeout = milliseconds(1000)}).ok());

  const std::string busy =
      Script(dir, "busy",
             absl::StrCat("[ \"$1\" = --version ] || { i=0; while [ $i -lt 3000000 ]; do i=$((i+1)); done; }\nexec ",
                          RealBinary(), " \"$@\"\n"));
  REQUIRE(EmbeddedServer::Create({.binary = busy, .dir = dir.File("n"), .start_timeout = milliseconds(1000)}).ok());
}

TEST_CASE("Folders that cannot be used are refused", "[jetstream]") {
  const TempDir dir;
  Must(testing::WriteFile(dir.File("file"), "text"));
  const absl::Status below_file = EmbeddedServer::Create({.binary = RealBinary(), .dir = dir.File("file/n")}).status();
  REQUIRE_FALSE(below_file.ok());
  REQUIRE(Mentions(below_file, "cannot create the folder " + dir.File("file/n")));

  // Somebody's folder is not locked away from others.
  std::filesystem::create_directory(dir.File("shared"));
  chmod(dir.File("shared").c_str(), 0755);
  Must(testing::WriteFile(dir.File("shared/theirs"), "text"));
  const absl::Status shared = EmbeddedServer::Create({.binary = RealBinary(), .dir = dir.File("shared")}).status();
  REQUIRE(absl::IsFailedPrecondition(shared));
  REQUIRE(Mentions(shared, "a folder of its own"));
}

TEST_CASE("A port can be chosen, and one that is taken is named", "[jetstream]") {
  const TempDir dir;
  const int port = testing::FreePorts(1)[0];
  const auto first = Must(EmbeddedServer::Create({.binary = RealBinary(), .dir = dir.File("a"), .port = port}));
  REQUIRE(first->url() == absl::StrCat("nats://127.0.0.1:", port));
  const absl::Status taken =
      EmbeddedServer::Create({.binary = RealBinary(), .dir = dir.File("b"), .port = port}).status();
  REQUIRE(absl::IsFailedPrecondition(taken));
  REQUIRE(Mentions(taken, absl::StrCat("another program listens on 127.0.0.1:", port)));
}

TEST_CASE("Options that make no sense are refused", "[jetstream]") {
  const TempDir dir;
  REQUIRE(absl::IsInvalidArgument(EmbeddedServer::Create({}).status()));
  REQUIRE(absl::IsInvalidArgument(EmbeddedServer::Create({.dir = dir.path(), .port = 65'536}).status()));
  for (const char* interval : {"", "never", "2", "-1s", "0s", "25h", "1s } x {"}) {
    INFO(interval);
    const absl::Status status = EmbeddedServer::Create({.dir = dir.path(), .sync_interval = interval}).status();
    REQUIRE(absl::IsInvalidArgument(status));
    REQUIRE(Mentions(status, "sync_interval"));
  }
  const auto lazy = Must(EmbeddedServer::Create({.binary = RealBinary(),
                                                 .dir = dir.File("n"),
                                                 .sync_interval = "2m",
                                                 .max_file_store_bytes = 1 << 30,
                                                 .max_memory_store_bytes = 1 << 20}));
  REQUIRE(absl::StrContains(testing::ReadFile(dir.File("n/nats-server.log")), "1.00 GB"));
}

}  // namespace
}  // namespace persistd::jetstream

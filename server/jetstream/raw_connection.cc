#include "server/jetstream/raw_connection.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <deque>
#include <fstream>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/base/logging.h"
#include "server/base/mutex.h"
#include "server/base/status_macros.h"
#include "server/base/unique_fd.h"
#include "server/jetstream/nkey.h"
#include "server/jetstream/reply_token.h"

namespace persistd::jetstream {
namespace {

// Requests of SyncRequest use this number; those of Connection count up from 1.
constexpr uint64_t kSyncToken = ~uint64_t{0};
constexpr int kMaxPingsOut = 2;
constexpr int kReadBufferBytes = 128 << 10;
// A server that is so far behind with reading is as good as gone.
constexpr size_t kMaxBufferedBytes = 192u << 20;  // More than the largest request.
// Of the three headers of a batch, at most.
constexpr size_t kBatchHeaderBytes = 128;
constexpr std::chrono::milliseconds kIdleWait{60'000};
constexpr size_t kKeptBufferBytes = 1u << 20;
constexpr size_t kMostTaken = 64;
constexpr size_t kMostTakenBytes = 256 << 10;
constexpr uint32_t kFirstSafeTlsVersion = 0x030B00;

absl::Status NatsError(natsStatus status, absl::string_view what) {
  const char* detail = nats_GetLastError(nullptr);
  std::string text = absl::StrCat(what, ": ", natsStatus_GetText(status));
  if (detail != nullptr && *detail != '\0') absl::StrAppend(&text, " (", detail, ")");
  if (status == NATS_CONNECTION_AUTH_FAILED || status == NATS_NOT_PERMITTED) return absl::UnauthenticatedError(text);
  return absl::UnavailableError(text);
}

struct OptionsDeleter {
  void operator()(natsOptions* options) const { natsOptions_Destroy(options); }
};
using OptionsPtr = std::unique_ptr<natsOptions, OptionsDeleter>;

struct MsgDeleter {
  void operator()(natsMsg* msg) const { natsMsg_Destroy(msg); }
};
using MsgPtr = std::unique_ptr<natsMsg, MsgDeleter>;

#define RETURN_IF_NATS_ERROR(expr, what)                                   \
  do {                                                                     \
    if (const natsStatus nats_status_ = (expr); nats_status_ != NATS_OK) { \
      return NatsError(nats_status_, what);                                \
    }                                                                      \
  } while (false)

// What the server last complained about, if it was about permissions; else empty. It does not answer such requests.
std::string PermissionsViolation(natsConnection* connection) {
  const char* text = nullptr;
  if (natsConnection_GetLastError(connection, &text) == NATS_OK || text == nullptr) return "";
  return absl::StrContains(absl::AsciiStrToLower(text), "permissions violation") ? text : "";
}

void LogServerError(natsConnection* connection, natsSubscription*, natsStatus status, void*) {
  const std::string violation = PermissionsViolation(connection);
  base::LogWarn("NATS reports an error", {{"error", violation.empty() ? natsStatus_GetText(status) : violation}});
}

bool Library(const ConnectOptions& options) { return options.tls || options.through_library; }

absl::StatusOr<OptionsPtr> MakeOptions(const ConnectOptions& options) {
  natsOptions* raw = nullptr;
  RETURN_IF_NATS_ERROR(natsOptions_Create(&raw), "making connection options");
  OptionsPtr made(raw);
  std::vector<const char*> urls;
  for (const std::string& url : options.urls) urls.push_back(url.c_str());
  RETURN_IF_NATS_ERROR(natsOptions_SetServers(raw, urls.data(), static_cast<int>(urls.size())), "setting nats.urls");
  RETURN_IF_NATS_ERROR(natsOptions_SetName(raw, options.name.c_str()), "setting the connection's name");
  if (!options.user.empty()) {
    RETURN_IF_NATS_ERROR(natsOptions_SetUserInfo(raw, options.user.c_str(), options.password.c_str()),
                         "setting nats.user");
  }
  if (!options.token.empty()) {
    RETURN_IF_NATS_ERROR(natsOptions_SetToken(raw, options.token.c_str()), "setting nats.token");
  }
  if (!options.nkey_seed_file.empty()) {
    std::ifstream file(options.nkey_seed_file);
    std::string seed;
    if (!std::getline(file, seed)) {
      return absl::InvalidArgumentError(absl::StrCat("cannot read nats.nkey_seed_file ", options.nkey_seed_file));
    }
    const absl::StatusOr<std::string> public_key = NkeyPublicKey(seed);
    OPENSSL_cleanse(seed.data(), seed.size());
    if (!public_key.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("nats.nkey_seed_file ", options.nkey_seed_file, " ", public_key.status().message()));
    }
    RETURN_IF_NATS_ERROR(natsOptions_SetNKeyFromSeed(raw, public_key->c_str(), options.nkey_seed_file.c_str()),
                         "setting nats.nkey_seed_file");
  }
  if (!options.creds_file.empty()) {
    RETURN_IF_NATS_ERROR(natsOptions_SetUserCredentialsFromFiles(raw, options.creds_file.c_str(), nullptr),
                         "reading nats.creds_file");
  }
  if (options.tls) {
    RETURN_IF_ERROR(CheckTlsUsable());
    RETURN_IF_NATS_ERROR(natsOptions_SetSecure(raw, true), "turning on TLS");
    if (!options.tls_ca_file.empty()) {
      RETURN_IF_NATS_ERROR(natsOptions_LoadCATrustedCertificates(raw, options.tls_ca_file.c_str()),
                           "reading nats.tls.ca_file");
    }
    if (!options.tls_cert_file.empty()) {
      RETURN_IF_NATS_ERROR(
          natsOptions_LoadCertificatesChain(raw, options.tls_cert_file.c_str(), options.tls_key_file.c_str()),
          "reading nats.tls.cert_file and nats.tls.key_file");
    }
  }
  RETURN_IF_NATS_ERROR(natsOptions_SetTimeout(raw, options.connect_timeout.count()), "setting nats.connect_timeout");
  // Without the library's reading, it would not see the answers to its pings.
  RETURN_IF_NATS_ERROR(natsOptions_SetPingInterval(raw, Library(options) ? options.ping_interval.count() : 0),
                       "setting nats.ping_interval");
  RETURN_IF_NATS_ERROR(natsOptions_SetMaxPingsOut(raw, kMaxPingsOut), "setting the ping limit");
  RETURN_IF_NATS_ERROR(natsOptions_SetIOBufSize(raw, kReadBufferBytes), "setting the size of the read buffer");
  // Without a thread of nats.c that writes: what is buffered is written at the end of a burst.
  RETURN_IF_NATS_ERROR(natsOptions_SetSendAsap(raw, true), "setting immediate sends");
  RETURN_IF_NATS_ERROR(natsOptions_SetErrorHandler(raw, LogServerError, nullptr), "setting the error handler");
  // A lost connection ends here. Connection makes a new one and probes the server before anything is sent on it.
  RETURN_IF_NATS_ERROR(natsOptions_SetAllowReconnect(raw, false), "turning off reconnecting");
  return made;
}

Message ToMessage(natsMsg* msg) {
  Message message;
  message.subject = natsMsg_GetSubject(msg);
  if (const char* reply = natsMsg_GetReply(msg); reply != nullptr) message.reply = reply;
  message.data.assign(natsMsg_GetData(msg), static_cast<size_t>(natsMsg_GetDataLength(msg)));
  const char** names = nullptr;
  int count = 0;
  if (natsMsgHeader_Keys(msg, &names, &count) == NATS_OK) {
    for (int i = 0; i < count; ++i) {
      const char* value = nullptr;
      if (natsMsgHeader_Get(msg, names[i], &value) == NATS_OK && value != nullptr) message.headers.Add(names[i], value);
    }
    free(static_cast<void*>(names));
  }
  return message;
}

}  // namespace

// What nats.c tells about the socket: it is used with an "external event loop" (ours is Serve), because that is the
// only way of telling it when to write. nats.c keeps a reference from attach to detach, beyond the life of a
// RawConnection.
struct RawConnection::Socket {
  base::UniqueFd
      fd;  // A copy of nats.c's: what it closes may be another file's number at once. Constant once connected.
  base::UniqueFd wake{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::atomic<bool> detached = false;  // Closed, by whomever.
  std::atomic<bool> behind = false;    // There are bytes to write that the socket did not take.

  using Reference = std::shared_ptr<Socket>;

  void Wake() const {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(wake.get(), &one, sizeof(one));
  }

  static natsStatus Attach(void** data, void* loop, natsConnection*, natsSock fd) {
    const Reference& socket = *static_cast<Reference*>(loop);
    socket->fd = base::UniqueFd(fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!socket->fd.valid()) return NATS_IO_ERROR;
    *data = new Reference(socket);
    return NATS_OK;
  }
  static natsStatus OnRead(void*, bool) { return NATS_OK; }
  static natsStatus OnWrite(void* data, bool add) {
    Socket& socket = **static_cast<Reference*>(data);
    if (!add) return NATS_OK;
    // A ping or a pong: nobody else writes it.
    socket.behind = true;
    socket.Wake();
    return NATS_OK;
  }
  static natsStatus Detach(void* data) {
    const std::unique_ptr<Reference> socket(static_cast<Reference*>(data));
    shutdown((*socket)->fd.get(), SHUT_RDWR);
    (*socket)->detached = true;
    (*socket)->Wake();
    return NATS_OK;
  }
};

// Takes the messages from nats.c's delivery thread. The subscription has a callback, because nats.c drops the "no
// responders" messages of one without, and with them the number of the request.
class RawConnection::Inbox {
 public:
  // The delivery thread may outlive the RawConnection: it holds a reference of its own, which OnClosed drops.
  using Reference = std::shared_ptr<Inbox>;

  static void OnMessage(natsConnection*, natsSubscription* subscription, natsMsg* raw, void* reference) {
    Inbox& inbox = **static_cast<Reference*>(reference);
    inbox.taken_.emplace_back(raw);
    inbox.taken_bytes_ += static_cast<size_t>(natsMsg_GetDataLength(raw));
    inbox.Take(subscription, raw);
    // nats.c frees messages on a thread of its own and wakes it for each, unless it is at it.
    if (inbox.taken_.size() >= kMostTaken || inbox.taken_bytes_ >= kMostTakenBytes) inbox.FreeTaken();
  }

  // The last thing that the delivery thread does, when the subscription or the connection is closed.
  static void OnClosed(void* reference) {
    base::Burst::End();
    (*static_cast<Reference*>(reference))->FreeTaken();
    const std::unique_ptr<Reference> inbox(static_cast<Reference*>(reference));
    base::MutexLock lock((*inbox)->mutex_);
    (*inbox)->closed_ = true;
    (*inbox)->changed_.NotifyAll();
    (*inbox)->wake_();
  }

  // Before anything is sent. `wake` is called when Next may have something.
  void Open(std::string prefix, std::function<void()> wake) {
    prefix_ = std::move(prefix);
    wake_ = std::move(wake);
  }

  // The next answer, if one is there.
  std::optional<Reply> Next() {
    base::MutexLock lock(mutex_);
    if (early_.empty()) return std::nullopt;
    Reply reply = std::move(early_.front());
    early_.pop_front();
    return reply;
  }

  // From now on answers go to `handler`.
  void HandOver(ReplyHandler handler) {
    base::MutexLock lock(mutex_);
    handler_ = std::make_shared<const ReplyHandler>(std::move(handler));
    early_.clear();  // Answers that SyncRequest no longer waits for.
  }

  // The last complaint of the server about permissions; empty: there was none.
  void NoteViolation(std::string text) {
    base::MutexLock lock(mutex_);
    violation_ = std::move(text);
  }
  std::string violation() const {
    base::MutexLock lock(mutex_);
    return violation_;
  }

  // An answer that came in another way than through nats.c.
  void Deliver(absl::string_view subject, absl::string_view reply, absl::string_view headers, absl::string_view data) {
    const std::optional<uint64_t> token = ReplyToken(prefix_, subject, reply);
    if (!token.has_value()) return;
    Reply answer;
    answer.token = *token;
    answer.message.subject = std::string(subject);
    answer.message.reply = std::string(reply);
    if (!headers.empty()) answer.message.headers = ParseHeaders(headers);
    answer.message.data = std::string(data);
    const std::string* status = answer.message.headers.Find("Status");
    answer.no_responders = status != nullptr && *status == "503" && data.empty();
    Hand(std::move(answer));
  }

  void WaitUntilClosed() {
    base::MutexLock lock(mutex_);
    while (!closed_) changed_.Wait(mutex_);
  }

 private:
  // To the handler; false when there is none yet, then the answer is kept for Next.
  bool Hand(Reply reply) {
    std::shared_ptr<const ReplyHandler> handler;
    {
      base::MutexLock lock(mutex_);
      handler = handler_;
      if (handler == nullptr) early_.push_back(std::move(reply));
    }
    if (handler != nullptr) (*handler)(std::move(reply));
    return handler != nullptr;
  }

  void Take(natsSubscription* subscription, natsMsg* msg) {
    Reply reply;
    const char* answer_to = natsMsg_GetReply(msg);
    const std::optional<uint64_t> token =
        ReplyToken(prefix_, natsMsg_GetSubject(msg), answer_to == nullptr ? "" : answer_to);
    if (!token.has_value()) return;
    reply.token = *token;
    reply.no_responders = natsMsg_IsNoResponders(msg);
    reply.message = ToMessage(msg);
    base::Burst::Begin();
    if (!Hand(std::move(reply))) wake_();
    uint64_t queued = 0;
    if (++handled_ >= base::Burst::kMaxThings || natsSubscription_QueuedMsgs(subscription, &queued) != NATS_OK ||
        queued == 0) {
      handled_ = 0;
      base::Burst::End();
    }
  }

  void FreeTaken() {
    taken_.clear();
    taken_bytes_ = 0;
  }

  std::vector<MsgPtr> taken_;  // Of the delivery thread.
  size_t taken_bytes_ = 0;
  std::string prefix_;          // Constant once open.
  std::function<void()> wake_;  // Constant once open.
  int handled_ = 0;             // In this burst; of the delivery thread.
  mutable base::Mutex mutex_;
  base::CondVar changed_;
  std::string violation_ GUARDED_BY(mutex_);
  std::deque<Reply> early_ GUARDED_BY(mutex_);  // Answers to SyncRequest.
  std::shared_ptr<const ReplyHandler> handler_ GUARDED_BY(mutex_);
  bool closed_ GUARDED_BY(mutex_) = false;
};

absl::Status CheckTlsUsable() {
  if (nats_GetVersionNumber() >= kFirstSafeTlsVersion) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("nats.tls is refused: the NATS client library of this machine (libnats ", nats_GetVersion(),
                   ") has a data race in its TLS, which 3.11 fixed. Use a plain connection to a NATS server or a TLS "
                   "tunnel on this machine, or install libnats 3.11 or newer"));
}

absl::StatusOr<std::shared_ptr<RawConnection>> RawConnection::Connect(const ConnectOptions& options) {
  absl::StatusOr<OptionsPtr> made = MakeOptions(options);
  if (!made.ok()) return made.status();
  std::shared_ptr<RawConnection> connection(new RawConnection(Library(options), options.ping_interval));
  if (!connection->socket_->wake.valid()) return absl::UnavailableError("no file descriptor is left for an event");
  Socket::Reference socket = connection->socket_;  // Used inside Connect only.
  RETURN_IF_NATS_ERROR(
      natsOptions_SetEventLoop(made->get(), &socket, Socket::Attach, Socket::OnRead, Socket::OnWrite, Socket::Detach),
      "setting the event loop");
  RETURN_IF_NATS_ERROR(natsConnection_Connect(&connection->connection_, made->get()), "connecting to NATS");
  natsInbox* inbox = nullptr;
  RETURN_IF_NATS_ERROR(natsInbox_Create(&inbox), "making an inbox");
  connection->inbox_prefix_ = absl::StrCat(inbox, ".");
  natsInbox_Destroy(inbox);
  connection->inbox_->Open(connection->inbox_prefix_, [socket = connection->socket_] { socket->Wake(); });
  if (Library(options)) {
    RETURN_IF_ERROR(connection->SubscribeInbox());
  } else {
    connection->read_buffer_.resize(kReadBufferBytes);
    connection->last_read_ = std::chrono::steady_clock::now();
    RETURN_IF_ERROR(connection->Append(absl::StrCat("SUB ", connection->inbox_prefix_, "* 1\r\n")));
  }
  connection->RunDeferred();
  return connection;
}

absl::Status RawConnection::SubscribeInbox() {
  const std::string subject = absl::StrCat(inbox_prefix_, "*");
  auto reference = std::make_unique<Inbox::Reference>(inbox_);
  RETURN_IF_NATS_ERROR(
      natsConnection_Subscribe(&subscription_, connection_, subject.c_str(), Inbox::OnMessage, reference.get()),
      "subscribing to the inbox");
  // Fails when the connection is closed already. Then no message can come any more, and the reference is not used.
  RETURN_IF_NATS_ERROR(natsSubscription_SetOnCompleteCB(subscription_, Inbox::OnClosed, reference.get()),
                       "watching the inbox");
  reference.release();
  // Bounded by the requests under way; dropping an answer would turn a known outcome into an unknown one.
  RETURN_IF_NATS_ERROR(natsSubscription_SetPendingLimits(subscription_, -1, -1), "raising the inbox's limits");
  return absl::OkStatus();
}

RawConnection::RawConnection(bool through_library, std::chrono::milliseconds ping_interval)
    : through_library_(through_library),
      ping_interval_(ping_interval),
      socket_(std::make_shared<Socket>()),
      inbox_(std::make_shared<Inbox>()) {}

RawConnection::~RawConnection() {
  // Closed first: nats.c before 3.6.1 crashes on a message for a subscription that was destroyed.
  natsConnection_Close(connection_);
  natsSubscription_Destroy(subscription_);
  natsConnection_Destroy(connection_);
}

absl::Status RawConnection::CheckSendable(const OutgoingMessage& message, bool in_batch) const {
  if (message.subject.empty() || message.subject.find_first_of(" \t\r\n") != std::string::npos) {
    return absl::InvalidArgumentError("a subject must be one word");
  }
  for (const auto& [name, value] : message.headers.fields()) {
    if (name.empty() || name.find_first_of(": \t\r\n") != std::string::npos || value.empty() ||
        value.find_first_of("\r\n") != std::string::npos) {
      return absl::InvalidArgumentError("a header must have a one-word name and one line of value");
    }
  }
  const size_t header_bytes = message.headers.fields().empty() ? 0 : HeaderBytes(message.headers);
  const size_t bytes = header_bytes + message.data.size() + (in_batch ? kBatchHeaderBytes : 0);
  const int64_t limit = natsConnection_GetMaxPayload(connection_);
  if (limit <= 0 || bytes <= static_cast<size_t>(limit)) return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrCat("a message of ", bytes, " bytes with its headers is over the ", limit,
                                            " that the NATS server takes (its max_payload)"));
}

absl::Status RawConnection::Publish(const OutgoingMessage& message, uint64_t reply_token, const BatchPlace* place) {
  if (through_library_) return PublishThroughLibrary(message, reply_token, place);
  // Written here, not by nats.c: its messages cost a copy, a table of the headers, and the wake-up of the thread that
  // frees them. That is more than all the rest of a save.
  std::string batch;
  if (place != nullptr) {
    batch = absl::StrCat("Nats-Batch-Id: ", absl::string_view(place->id.data(), place->id.size()),
                         "\r\nNats-Batch-Sequence: ", place->number, "\r\n",
                         place->commit ? "Nats-Batch-Commit: 1\r\n" : "");
  }
  const bool headers = !message.headers.fields().empty() || place != nullptr;
  const size_t header_bytes = headers ? HeaderBytes(message.headers) + batch.size() : 0;
  const std::string reply = reply_token == 0 ? "" : absl::StrCat(inbox_prefix_, reply_token, " ");
  {
    base::MutexLock lock(write_mutex_);
    RETURN_IF_ERROR(CheckWritable());
    absl::StrAppend(&out_, headers ? "HPUB " : "PUB ", message.subject, " ", reply);
    if (headers) {
      absl::StrAppend(&out_, header_bytes, " ", header_bytes + message.data.size(), "\r\nNATS/1.0\r\n");
      for (const auto& [name, value] : message.headers.fields()) absl::StrAppend(&out_, name, ": ", value, "\r\n");
      absl::StrAppend(&out_, batch, "\r\n", message.data, "\r\n");
    } else {
      absl::StrAppend(&out_, message.data.size(), "\r\n", message.data, "\r\n");
    }
  }
  base::Burst::AtEnd(shared_from_this());
  return absl::OkStatus();
}

absl::Status RawConnection::PublishThroughLibrary(const OutgoingMessage& message, uint64_t reply_token,
                                                  const BatchPlace* place) {
  const std::string reply = reply_token == 0 ? "" : ReplySubject(reply_token);
  natsMsg* raw = nullptr;
  RETURN_IF_NATS_ERROR(natsMsg_Create(&raw, message.subject.c_str(), reply.empty() ? nullptr : reply.c_str(),
                                      message.data.data(), static_cast<int>(message.data.size())),
                       "making a message");
  const MsgPtr msg(raw);
  Headers headers = message.headers;
  if (place != nullptr) {
    headers.Add("Nats-Batch-Id", std::string(place->id));
    headers.Add("Nats-Batch-Sequence", absl::StrCat(place->number));
    if (place->commit) headers.Add("Nats-Batch-Commit", "1");
  }
  for (const auto& [name, value] : headers.fields()) {
    RETURN_IF_NATS_ERROR(natsMsgHeader_Set(raw, name.c_str(), value.c_str()), "setting a header");
  }
  const natsStatus status = natsConnection_PublishMsg(connection_, raw);
  switch (status) {
    case NATS_OK:
      return absl::OkStatus();  // The buffer asks to be written by itself (Socket::OnWrite).
    case NATS_CONNECTION_CLOSED:
    case NATS_CONNECTION_DISCONNECTED:
    case NATS_DRAINING:
    case NATS_INSUFFICIENT_BUFFER:
    case NATS_INVALID_ARG:
    case NATS_INVALID_SUBJECT:
    case NATS_MAX_PAYLOAD:
    case NATS_NO_MEMORY:
      return NatsError(status, "publishing");
    default:
      return absl::UnknownError(absl::StrCat("publishing: ", natsStatus_GetText(status)));
  }
}

absl::Status RawConnection::CheckWritable() const {
  if (socket_->detached) return absl::UnavailableError("the connection to NATS is closed");
  if (out_.size() - out_written_ <= kMaxBufferedBytes) return absl::OkStatus();
  return absl::UnavailableError("the NATS server does not read what is sent to it");
}

absl::Status RawConnection::Append(absl::string_view bytes) {
  base::MutexLock lock(write_mutex_);
  RETURN_IF_ERROR(CheckWritable());
  absl::StrAppend(&out_, bytes);
  return absl::OkStatus();
}

void RawConnection::RunDeferred() {
  Write();
  // The socket is full: the thread in Serve writes the rest when there is room.
  if (socket_->behind) socket_->Wake();
}

void RawConnection::Write() {
  base::MutexLock lock(write_mutex_);
  // Before looking: what comes to the buffers later says so itself.
  socket_->behind = false;
  // What one of the two has begun to write comes before what the other has.
  if (out_written_ == 0 && !WriteOfNats()) return;
  while (out_written_ < out_.size()) {
    const ssize_t written =
        send(socket_->fd.get(), out_.data() + out_written_, out_.size() - out_written_, MSG_NOSIGNAL);
    if (written < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) {
        socket_->behind = true;
        return;
      }
      shutdown(socket_->fd.get(), SHUT_RDWR);  // The thread in Serve notices.
      return;
    }
    out_written_ += static_cast<size_t>(written);
  }
  out_.clear();
  out_written_ = 0;
  if (out_.capacity() > kKeptBufferBytes) out_.shrink_to_fit();
  WriteOfNats();
}

bool RawConnection::WriteOfNats() {
  // nats.c takes a write of nothing for the end of the connection.
  if (natsConnection_Buffered(connection_) <= 0) return true;
  natsConnection_ProcessWriteEvent(connection_);
  if (natsConnection_Buffered(connection_) <= 0) return true;
  socket_->behind = true;
  return false;
}

void RawConnection::MoveBytes(std::chrono::milliseconds timeout) {
  pollfd ready[2] = {{.fd = socket_->fd.get(), .events = POLLIN, .revents = 0},
                     {.fd = socket_->wake.get(), .events = POLLIN, .revents = 0}};
  if (socket_->behind) ready[0].events |= POLLOUT;
  if (poll(ready, 2, static_cast<int>(timeout.count())) <= 0 || socket_->detached) return;
  if (ready[1].revents != 0) {
    uint64_t wakes = 0;
    [[maybe_unused]] const ssize_t taken = read(socket_->wake.get(), &wakes, sizeof(wakes));
  }
  if ((ready[0].revents & POLLOUT) != 0) Write();
  if ((ready[0].revents & ~POLLOUT) == 0) return;
  if (through_library_) {
    natsConnection_ProcessReadEvent(connection_);
  } else {
    Read();
  }
}

// What the parser finds, on its way to the inbox.
class RawConnection::Receiver final : public WireParser::Sink {
 public:
  explicit Receiver(RawConnection* connection) : connection_(*connection) {}

  void OnMessage(absl::string_view subject, absl::string_view reply, absl::string_view headers,
                 absl::string_view data) override {
    connection_.inbox_->Deliver(subject, reply, headers, data);
    if (++messages_ % base::Burst::kMaxThings == 0) base::Burst::Now();
  }
  void OnPing() override {
    // Fails when the connection is closed.
    if (connection_.Append("PONG\r\n").ok()) base::Burst::AtEnd(connection_.shared_from_this());
  }
  void OnError(absl::string_view text) override {
    base::LogWarn("NATS reports an error", {{"error", text}});
    // After any other error the server closes the connection by itself.
    if (absl::StrContains(absl::AsciiStrToLower(text), "permissions violation")) {
      connection_.inbox_->NoteViolation(std::string(text));
    }
  }

 private:
  RawConnection& connection_;
  int messages_ = 0;
};

void RawConnection::Read() {
  const ssize_t count = recv(socket_->fd.get(), read_buffer_.data(), read_buffer_.size(), MSG_DONTWAIT);
  if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
  if (count <= 0) {
    natsConnection_Close(connection_);
    return;
  }
  last_read_ = std::chrono::steady_clock::now();
  pings_out_ = 0;
  Receiver receiver(this);
  base::Burst::Begin();
  const absl::Status parsed = parser_.Feed({read_buffer_.data(), static_cast<size_t>(count)}, receiver);
  base::Burst::End();
  if (parsed.ok()) return;
  base::LogError("the connection to NATS is given up", {{"reason", parsed}});
  natsConnection_Close(connection_);
}

void RawConnection::CheckAlive() {
  if (through_library_) return;  // nats.c does that.
  const auto silent = std::chrono::steady_clock::now() - last_read_;
  if (silent < ping_interval_ * (pings_out_ + 1)) return;
  if (pings_out_ >= kMaxPingsOut) {
    base::LogWarn("the NATS server does not answer pings");
    natsConnection_Close(connection_);
    return;
  }
  ++pings_out_;
  if (Append("PING\r\n").ok()) RunDeferred();
}

void RawConnection::Serve(ReplyHandler on_reply) {
  inbox_->HandOver(std::move(on_reply));
  while (!socket_->detached) {
    MoveBytes(through_library_ ? kIdleWait : ping_interval_);
    CheckAlive();
  }
  if (through_library_) inbox_->WaitUntilClosed();
}

absl::StatusOr<Message> RawConnection::SyncRequest(const OutgoingMessage& message, std::chrono::milliseconds timeout) {
  if (absl::Status status = Publish(message, kSyncToken); !status.ok()) return status;
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (true) {
    while (std::optional<Reply> reply = inbox_->Next()) {
      if (reply->token != kSyncToken) continue;
      if (reply->no_responders) return absl::UnavailableError("nobody answers (is JetStream on?)");
      return std::move(reply->message);
    }
    if (socket_->detached) return absl::UnavailableError("the connection to NATS is closed");
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) {
      const std::string violation = through_library_ ? PermissionsViolation(connection_) : inbox_->violation();
      if (!violation.empty()) return absl::PermissionDeniedError(violation);
      return absl::UnknownError("no answer in time");
    }
    MoveBytes(left);
  }
}

void RawConnection::Close() { natsConnection_Close(connection_); }

std::string RawConnection::server_url() const {
  char url[256] = "";
  if (natsConnection_GetConnectedUrl(connection_, url, sizeof(url)) != NATS_OK) return "";
  std::string text = url;
  const size_t scheme = text.find("://");
  const size_t at = text.rfind('@');
  if (scheme != std::string::npos && at != std::string::npos && at > scheme) text.erase(scheme + 3, at - scheme - 2);
  return text;
}

}  // namespace persistd::jetstream

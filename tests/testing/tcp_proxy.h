// A TCP proxy on 127.0.0.1 that misbehaves on demand: it loses answers, forges them, holds requests back and delivers
// them late.
//
//   client ── to_server ──▶ proxy ──▶ server
//
// A connection is struck when its client sends bytes that contain a given text; which part of the protocol that is only
// the test knows. All methods are thread-safe. One thread moves the bytes; it ends with the object.
#pragma once

#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "server/base/mutex.h"
#include "server/base/unique_fd.h"

namespace persistd::testing {

class TcpProxy {
 public:
  // server_port: on 127.0.0.1; nobody needs to listen there yet.
  static absl::StatusOr<std::unique_ptr<TcpProxy>> Start(int server_port);
  ~TcpProxy();
  TcpProxy(const TcpProxy&) = delete;
  TcpProxy& operator=(const TcpProxy&) = delete;

  int port() const { return port_; }

  // What happens to the next connection on which `text` comes from the client, from that moment on.
  enum class Strike {
    kHold,         // `text` and all after it is kept back from the server, until Release.
    kLoseAnswers,  // The server gets everything, the client nothing.
    kNone,
  };
  void StrikeAt(std::string text, Strike strike);
  // False when no connection was struck since StrikeAt by then.
  [[nodiscard]] bool WaitForStrike(std::chrono::milliseconds timeout);

  // Closes the client's side of the struck connection. What is held for the server stays, as if it were on its way.
  void CutStruck();
  // Delivers what is held, then passes bytes on as before. Returns when that is done; for connections that were cut,
  // when the server has read all of it and closed its side.
  void Release();

  // From now on `replacement` comes to clients wherever `text` comes from the server, which is to have the same length
  // where the protocol counts bytes. Bytes that may be the beginning of `text` wait for those after them. An empty
  // `text` replaces nothing.
  void ReplaceAnswers(std::string text, std::string replacement);

  // True: closes all connections and those to come at once, as a server that is away would.
  void SetAway(bool away);

 private:
  struct Link {
    base::UniqueFd client;
    base::UniqueFd server;
    std::string to_server;  // Not yet written.
    std::string to_client;
    std::string recent;       // The last bytes from the client that may be the beginning of the text.
    std::string from_server;  // The last bytes from the server that may be the beginning of what is replaced.
    bool struck = false;
    Strike strike = Strike::kNone;
    bool client_ended = false;
    bool server_ended = false;  // Our half; the server may still write.
    bool dead = false;
  };

  TcpProxy(base::UniqueFd listener, int port, int server_port);
  void Run();
  void Wake();
  void Accept() REQUIRES(mutex_);
  void FromClient(Link& link) REQUIRES(mutex_);
  void FromServer(Link& link) REQUIRES(mutex_);
  void Replace(Link& link) REQUIRES(mutex_);
  void Flush(Link& link) REQUIRES(mutex_);

  const base::UniqueFd listener_;
  const int port_;
  const int server_port_;
  base::UniqueFd wake_;

  base::Mutex mutex_;
  base::CondVar changed_;
  bool stopping_ GUARDED_BY(mutex_) = false;
  bool away_ GUARDED_BY(mutex_) = false;
  std::string text_ GUARDED_BY(mutex_);
  Strike next_strike_ GUARDED_BY(mutex_) = Strike::kNone;
  bool struck_ GUARDED_BY(mutex_) = false;
  std::string replaced_ GUARDED_BY(mutex_);
  std::string replacement_ GUARDED_BY(mutex_);
  std::list<Link> links_ GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace persistd::testing

#include "server/config/syntax.h"

#include <string>

#include "tests/testing/catch.h"

namespace persistd::config {
namespace {

TEST_CASE("Listen addresses name a host and a port", "[config]") {
  for (const char* text :
       {"127.0.0.1:7443", "0.0.0.0:0", "localhost:65535", "[::1]:7443", "[::]:1", "my_host-1.local:80"}) {
    INFO(text);
    REQUIRE(CheckListenAddress(text).ok());
  }
  for (const char* text : {"", ":7443", "localhost", "localhost:", "localhost:65536", "localhost:-1", "localhost:+1",
                           "localhost:7443x", "::1:7443", "[::1]", "[::1]7443", "[nonsense]:1", "[]:1", "a b:1",
                           "host/path:1", "localhost:000001", "ho\nst:1"}) {
    INFO(text);
    REQUIRE(CheckListenAddress(text).code() == absl::StatusCode::kInvalidArgument);
  }
}

TEST_CASE("NATS URLs have a scheme, a host and perhaps credentials and a port", "[config]") {
  for (const char* text : {"nats://localhost", "nats://localhost:4222", "tls://nats-1.example:4222/", "nats://u:p@h:1",
                           "nats://token@h", "nats://u:p@ss@h", "nats://[fe80::1]:4222", "nats://10.0.0.1"}) {
    INFO(text);
    REQUIRE(CheckNatsUrl(text).ok());
  }
  for (const char* text :
       {"", "localhost:4222", "http://h", "nats://", "nats://:4222", "nats://h:0", "nats://h:x", "nats://@h",
        "nats://u:p w@h", "nats://h/path", "nats://u:p/w@h", "nats://[::g]", "nats://h\r\nPUB x", "NATS://h"}) {
    INFO(text);
    REQUIRE(CheckNatsUrl(text).code() == absl::StatusCode::kInvalidArgument);
  }
}

TEST_CASE("Messages about a URL never show its credentials", "[config]") {
  for (const char* text : {"natz://me:hunter2@h", "nats://me:hunter2@", "nats://me:hunter2@h:99999", "me:hunter2@h",
                           "nats://me:hunter2@other@h:x", "nats://me: hunter2@h", "nats://hunter2/@h"}) {
    const std::string message(CheckNatsUrl(text).message());
    INFO(message);
    REQUIRE_FALSE(message.empty());
    REQUIRE(message.find("hunter2") == std::string::npos);
  }
}

TEST_CASE("Credentials are hidden and the rest of the URL is kept", "[config]") {
  REQUIRE(WithoutCredentials("nats://u:p@h:4222") == "nats://***@h:4222");
  REQUIRE(WithoutCredentials("u:p@h") == "***@h");
  REQUIRE(WithoutCredentials("nats://h:4222") == "nats://h:4222");
  REQUIRE(UrlHasCredentials("nats://u:p@h"));
  REQUIRE_FALSE(UrlHasCredentials("nats://h"));
}

TEST_CASE("Monitoring URLs are plain HTTP or HTTPS", "[config]") {
  REQUIRE(CheckMonitoringUrl("http://localhost:8222").ok());
  REQUIRE(CheckMonitoringUrl("https://[::1]/").ok());
  for (const char* text : {"", "localhost:8222", "http://", "http://h:8222/varz", "http://u:p@h", "ftp://h"}) {
    INFO(text);
    REQUIRE_FALSE(CheckMonitoringUrl(text).ok());
  }
}

TEST_CASE("Stream and bucket names keep off the names of others", "[config]") {
  REQUIRE(CheckStreamName("CIM-EVENTS").ok());
  REQUIRE(CheckStreamName(std::string(64, 'a')).ok());
  REQUIRE(CheckBucketName("cim_read-models9").ok());
  for (const std::string& text :
       {std::string(), std::string(65, 'a'), std::string("a.b"), std::string("a+b"), std::string("a b"),
        std::string("ä"), std::string("a*"), std::string("KV_x"), std::string("OBJ_x"), std::string("CIM-CHAINS")}) {
    INFO(text);
    REQUIRE_FALSE(CheckStreamName(text).ok());
  }
  REQUIRE_FALSE(CheckBucketName("cim-blocks").ok());
  REQUIRE_FALSE(CheckBucketName("cim-control").ok());
  REQUIRE_FALSE(CheckBucketName("a/b").ok());
}

TEST_CASE("Contexts and aggregates are single tokens that do not begin with an underscore", "[config]") {
  REQUIRE(CheckToken("order_line-2").ok());
  REQUIRE_FALSE(CheckToken("_deleted").ok());
  REQUIRE_FALSE(CheckToken("a.b").ok());
  REQUIRE_FALSE(CheckToken("").ok());
}

}  // namespace
}  // namespace persistd::config

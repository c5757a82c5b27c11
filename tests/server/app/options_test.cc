#include "server/app/options.h"

#include <chrono>

#include "server/config/config.h"
#include "tests/testing/catch.h"

namespace persistd::app {
namespace {

using std::chrono_literals::operator""ms;
using Fsync = cim::persistence::v1::Durability;

TEST_CASE("The connection gets the login, the TLS files and the times of the configuration", "[options]") {
  config::Nats nats;
  nats.urls = {"nats://a:1", "nats://b:2"};
  nats.user = "user";
  nats.password = "password";
  nats.token = "token";
  nats.nkey_seed_file = "seed";
  nats.creds_file = "creds";
  nats.tls = {.enabled = true, .ca_file = "ca", .cert_file = "cert", .key_file = "key"};
  nats.connect_timeout = 123ms;
  nats.ping_interval = 456ms;
  const jetstream::ConnectOptions options = ConnectOptionsOf(nats);
  CHECK(options.urls == nats.urls);
  CHECK(options.user == "user");
  CHECK(options.password == "password");
  CHECK(options.token == "token");
  CHECK(options.nkey_seed_file == "seed");
  CHECK(options.creds_file == "creds");
  CHECK(options.tls);
  CHECK(options.tls_ca_file == "ca");
  CHECK(options.tls_cert_file == "cert");
  CHECK(options.tls_key_file == "key");
  CHECK(options.connect_timeout == 123ms);
  CHECK(options.ping_interval == 456ms);
}

TEST_CASE("The collector looks where the repository stores", "[options]") {
  config::Config config;
  config.repository.snapshot_bucket = "S";
  config.repository.block_collection.min_age = 123ms;
  const repository::BlockCollectorOptions options = CollectorOptionsOf(config);
  CHECK(options.snapshot_bucket == "S");
  CHECK(options.block_bucket.bucket == RepositoryOptionsOf(config).block_bucket.bucket);
  CHECK(options.min_age == 123ms);
}

TEST_CASE("The repository gets names, caches and limits of the configuration", "[options]") {
  config::Config config;
  config.repository.event_stream_name = "E";
  config.repository.aggregate_stream_name = "A";
  config.repository.event_streams = config::EventStreams::kPerContext;
  config.repository.auto_create = false;
  config.repository.max_streams = 7;
  config.repository.cache_size = 8;
  config.repository.cache_bytes = 9;
  config.repository.cache_ttl = 10ms;
  config.repository.head_cache_bytes = 11;
  config.limits.max_load_size = 12;
  const repository::RepositoryOptions options = RepositoryOptionsOf(config);
  CHECK(options.storage.event_stream_name == "E");
  CHECK(options.storage.aggregate_stream_name == "A");
  CHECK(options.storage.event_streams == repository::EventStreams::kPerContext);
  CHECK_FALSE(options.storage.auto_create);
  CHECK(options.storage.max_streams == 7);
  CHECK(options.state_cache_entries == 8);
  CHECK(options.state_cache_bytes == 9);
  CHECK(options.cache_ttl == 10ms);
  CHECK(options.head_cache_bytes == 11);
  CHECK(options.max_load_bytes == 12);
  config.repository.event_streams = config::EventStreams::kSingle;
  CHECK(RepositoryOptionsOf(config).storage.event_streams == repository::EventStreams::kSingle);
}

TEST_CASE("A declared type has settings of its own; of the rest, only what is no default is asked of streams",
          "[options]") {
  config::Config config;
  CHECK(RepositoryOptionsOf(config).storage.defaults == jetstream::StreamSettings{});
  config.repository.stream = {.replicas = 3,
                              .compression = config::Compression::kS2,
                              .placement = {.cluster = "eu", .tags = {"ssd"}},
                              .max_bytes = 1000};
  config.repository.aggregates = {{.context = "sales",
                                   .aggregate = "order",
                                   .replicas = 1,
                                   .compression = config::Compression::kNone,
                                   .storage = config::Storage::kMemory,
                                   .placement = config::Placement{},
                                   .max_bytes = 0},
                                  {.context = "sales", .aggregate = "item", .storage = config::Storage::kFile}};
  const repository::StorageOptions storage = RepositoryOptionsOf(config).storage;
  CHECK(storage.defaults ==
        jetstream::StreamSettings{
            .replicas = 3, .compression = "s2", .placement = jetstream::Placement{"eu", {"ssd"}}, .max_bytes = 1000});
  REQUIRE(storage.types.size() == 2);
  CHECK(storage.types.at({"sales", "order"}) == jetstream::StreamSettings{.replicas = 1,
                                                                          .storage = "memory",
                                                                          .compression = "none",
                                                                          .placement = jetstream::Placement{},
                                                                          .max_bytes = 0});
  CHECK(storage.types.at({"sales", "item"}) == jetstream::StreamSettings{.storage = "file"});
}

TEST_CASE("The gRPC server and its requests get the limits of the configuration", "[options]") {
  config::Config config;
  config.server.listen_address = "127.0.0.1:1";
  config.server.threads = 2;
  config.server.default_deadline = 3ms;
  config.limits.max_request_size = 4;
  config.limits.max_concurrent_calls = 5;
  config.limits.max_event_size = 6;
  config.limits.max_state_size = 7;
  const rpc::Server::Options server = ServerOptionsOf(config);
  CHECK(server.listen_address == "127.0.0.1:1");
  CHECK(server.threads == 2);
  CHECK(server.default_deadline == 3ms);
  CHECK(server.max_request_bytes == 4);
  CHECK(server.max_concurrent_calls == 5);
  CHECK(RequestLimitsOf(config.limits).max_event_bytes == 6);
  CHECK(RequestLimitsOf(config.limits).max_state_bytes == 7);
}

TEST_CASE("Answers name the fsync mode that is known", "[options]") {
  CHECK(FsyncOf(jetstream::FsyncMode::kAlways) == Fsync::FSYNC_ALWAYS);
  CHECK(FsyncOf(jetstream::FsyncMode::kInterval) == Fsync::FSYNC_INTERVAL);
  CHECK(FsyncOf(jetstream::FsyncMode::kUnknown) == Fsync::FSYNC_UNKNOWN);
}

}  // namespace
}  // namespace persistd::app

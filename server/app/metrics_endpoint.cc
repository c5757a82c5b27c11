#include "server/app/metrics_endpoint.h"

#include <exception>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/rpc/listen_address.h"

namespace persistd::app {
namespace {

// Scrapes are rare; two, so that one slow reader does not hold up another.
constexpr const char* kThreads = "2";
// After which whoever asks or reads too slowly is dropped.
constexpr const char* kRequestTimeoutMs = "5000";

class Collector final : public prometheus::Collectable {
 public:
  explicit Collector(MetricsEndpoint::Collect collect) : collect_(std::move(collect)) {}
  std::vector<prometheus::MetricFamily> Collect() const override { return collect_(); }

 private:
  const MetricsEndpoint::Collect collect_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsEndpoint>> MetricsEndpoint::Create(const std::string& listen_address,
                                                                         Collect collect) {
  // The library says only that it failed.
  RETURN_IF_ERROR(rpc::CheckCanListen(listen_address));
  try {
    auto exposer = std::make_unique<prometheus::Exposer>(std::vector<std::string>{
        "listening_ports", listen_address, "num_threads", kThreads, "request_timeout_ms", kRequestTimeoutMs});
    auto collector = std::make_shared<Collector>(std::move(collect));
    exposer->RegisterCollectable(collector);
    std::string address =
        absl::StrCat(listen_address.substr(0, listen_address.rfind(':')), ":", exposer->GetListeningPorts().at(0));
    return std::unique_ptr<MetricsEndpoint>(
        new MetricsEndpoint(std::move(address), std::move(collector), std::move(exposer)));
  } catch (const std::exception& error) {
    return absl::FailedPreconditionError(absl::StrCat("cannot listen on ", listen_address, ": ", error.what()));
  }
}

MetricsEndpoint::MetricsEndpoint(std::string address, std::shared_ptr<prometheus::Collectable> collectable,
                                 std::unique_ptr<prometheus::Exposer> exposer)
    : address_(std::move(address)), collectable_(std::move(collectable)), exposer_(std::move(exposer)) {}

MetricsEndpoint::~MetricsEndpoint() = default;

}  // namespace persistd::app

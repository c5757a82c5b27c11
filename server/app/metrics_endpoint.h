// Answers GET /metrics over HTTP in Prometheus's text format, from threads of its own. Adds what prometheus-cpp tells
// of itself (exposer_...).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "prometheus/collectable.h"
#include "prometheus/exposer.h"
#include "prometheus/metric_family.h"

namespace persistd::app {

class MetricsEndpoint {
 public:
  // Runs on several threads at a time, and must not throw.
  using Collect = std::function<std::vector<prometheus::MetricFamily>()>;

  // Listens when it returns. listen_address: HOST:PORT; port 0 picks a free one. FAILED_PRECONDITION with the reason
  // when it cannot. What `collect` uses must outlive the object.
  static absl::StatusOr<std::unique_ptr<MetricsEndpoint>> Create(const std::string& listen_address, Collect collect);
  // Waits for the answers under way.
  ~MetricsEndpoint();
  MetricsEndpoint(const MetricsEndpoint&) = delete;
  MetricsEndpoint& operator=(const MetricsEndpoint&) = delete;

  // host:port that it listens on.
  const std::string& address() const { return address_; }

 private:
  MetricsEndpoint(std::string address, std::shared_ptr<prometheus::Collectable> collectable,
                  std::unique_ptr<prometheus::Exposer> exposer);

  const std::string address_;
  const std::shared_ptr<prometheus::Collectable> collectable_;
  const std::unique_ptr<prometheus::Exposer> exposer_;  // Knows collectable_ weakly.
};

}  // namespace persistd::app

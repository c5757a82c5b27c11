// What Prometheus is told. Pure: the numbers come from GetServerInfo's answer and from the gRPC server's counts.
#pragma once

#include <vector>

#include "cim/persistence/v1/admin.pb.h"
#include "prometheus/metric_family.h"
#include "server/rpc/call_stats.h"

namespace persistd::app {

// What is not known is left out.
std::vector<prometheus::MetricFamily> ToMetrics(const cim::persistence::v1::GetServerInfoResponse& info);
std::vector<prometheus::MetricFamily> ToMetrics(const std::vector<rpc::MethodCalls>& calls);

}  // namespace persistd::app

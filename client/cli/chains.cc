#include "client/cli/chains.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/input.h"
#include "client/cli/requests.h"

namespace persistd::cli {
namespace {

namespace pb = cim::persistence::v1;

absl::StatusOr<pb::AppendToChainRequest> BuildAppend(const Arguments& arguments, std::istream& in) {
  pb::AppendToChainRequest request;
  request.set_chain(arguments.positionals()[1]);
  absl::StatusOr<std::optional<pb::Payload>> content = ReadContent(arguments, in);
  if (!content.ok()) return content.status();
  if (content->has_value()) *request.mutable_content() = **std::move(content);
  const auto sequence = arguments.GetNumber("expected-sequence");
  if (!sequence.ok()) return sequence.status();
  if (sequence->has_value()) request.set_expected_sequence(**sequence);
  if (const auto actor = arguments.Get("actor")) request.mutable_metadata()->set_actor(*actor);
  if (const auto id = arguments.Get("correlation-id")) request.mutable_metadata()->set_correlation_id(*id);
  if (const auto id = arguments.Get("causation-id")) request.mutable_metadata()->set_causation_id(*id);
  if (absl::Status status = SetRequestId(arguments, request); !status.ok()) return status;
  return request;
}

absl::StatusOr<pb::GetChainRequest> BuildGet(const Arguments& arguments) {
  pb::GetChainRequest request;
  request.set_chain(arguments.positionals()[1]);
  const auto from = arguments.GetNumber("from");
  if (!from.ok()) return from.status();
  request.set_from_sequence(from->value_or(0));
  const auto to = arguments.GetNumber("to");
  if (!to.ok()) return to.status();
  if (to->has_value()) request.set_to_sequence(**to);
  request.set_reverse(arguments.Has("reverse"));
  return request;
}

// Sets what a request is about.
template <typename Request>
absl::Status SetTarget(const Arguments& arguments, Request& request) {
  const auto chain = arguments.Get("chain");
  if (arguments.positionals().size() != (chain.has_value() ? 0 : 1)) {
    return absl::InvalidArgumentError("needs one aggregate, CONTEXT/AGGREGATE/ENTITY, or --chain NAME");
  }
  if (chain.has_value()) {
    request.set_chain(*chain);
    return absl::OkStatus();
  }
  absl::StatusOr<pb::AggregateRef> ref = ParseRef(arguments.positionals().front());
  if (!ref.ok()) return ref.status();
  *request.mutable_aggregate() = *std::move(ref);
  return absl::OkStatus();
}

}  // namespace

const std::vector<FlagSpec>& VerifyFlags() {
  static const std::vector<FlagSpec>& flags = *new std::vector<FlagSpec>{
      {"chain"}, {"from"}, {"to"}, {"expect-head"}, {"expect-previous"}, {"car"}, {"expect-root"}};
  return flags;
}

const std::vector<FlagSpec>& ExportFlags() {
  static const std::vector<FlagSpec>& flags = *new std::vector<FlagSpec>{{"chain"}, {"to"}, {"output"}};
  return flags;
}

absl::StatusOr<pb::VerifyChainRequest> BuildVerify(const Arguments& arguments) {
  if (arguments.Has("expect-root")) return absl::InvalidArgumentError("--expect-root is of --car");
  pb::VerifyChainRequest request;
  if (absl::Status status = SetTarget(arguments, request); !status.ok()) return status;
  const auto from = arguments.GetNumber("from");
  if (!from.ok()) return from.status();
  request.set_from_version(from->value_or(0));
  const auto to = arguments.GetNumber("to");
  if (!to.ok()) return to.status();
  if (to->has_value()) request.set_to_version(**to);
  const auto head = arguments.GetFilled("expect-head");
  if (!head.ok()) return head.status();
  request.set_expected_head_cid(head->value_or(""));
  const auto previous = arguments.GetFilled("expect-previous");
  if (!previous.ok()) return previous.status();
  request.set_expected_previous_cid(previous->value_or(""));
  return request;
}

absl::StatusOr<pb::ExportCarRequest> BuildExport(const Arguments& arguments) {
  pb::ExportCarRequest request;
  if (absl::Status status = SetTarget(arguments, request); !status.ok()) return status;
  const auto to = arguments.GetNumber("to");
  if (!to.ok()) return to.status();
  if (to->has_value()) request.set_to_version(**to);
  return request;
}

const std::vector<FlagSpec>& ChainFlags() {
  static const std::vector<FlagSpec>& flags = *new std::vector<FlagSpec>{{"data"},
                                                                         {"file"},
                                                                         {"content-type"},
                                                                         {"expected-sequence"},
                                                                         {"actor"},
                                                                         {"correlation-id"},
                                                                         {"causation-id"},
                                                                         {"request-id"},
                                                                         {"from"},
                                                                         {"to"},
                                                                         {"reverse", FlagSpec::kSwitch},
                                                                         {"limit"}};
  return flags;
}

const std::vector<FlagSpec>& BlockFlags() {
  static const std::vector<FlagSpec>& flags = *new std::vector<FlagSpec>{{"codec"}, {"expected-cid"}};
  return flags;
}

absl::StatusOr<std::variant<pb::AppendToChainRequest, pb::GetChainRequest>> BuildChain(const Arguments& arguments,
                                                                                       std::istream& in) {
  if (arguments.positionals().size() != 2) return absl::InvalidArgumentError("write append or get, then the name");
  const std::string& verb = arguments.positionals()[0];
  if (verb == "append") {
    if (absl::Status status = Refuse(arguments, verb, {"from", "to", "reverse", "limit"}); !status.ok()) return status;
    return BuildAppend(arguments, in);
  }
  if (verb != "get") return absl::InvalidArgumentError("needs append or get as its first word");
  const Flags others = {"data",  "file",           "content-type", "expected-sequence",
                        "actor", "correlation-id", "causation-id", "request-id"};
  if (absl::Status status = Refuse(arguments, verb, others); !status.ok()) return status;
  return BuildGet(arguments);
}

absl::StatusOr<std::variant<pb::PutBlockRequest, pb::GetBlockRequest>> BuildBlock(const Arguments& arguments,
                                                                                  std::istream& in) {
  if (arguments.positionals().size() != 2) {
    return absl::InvalidArgumentError("write put, then a file, or get, then a CID");
  }
  const std::string& verb = arguments.positionals()[0];
  if (verb == "get") {
    if (absl::Status status = Refuse(arguments, verb, {"codec", "expected-cid"}); !status.ok()) return status;
    pb::GetBlockRequest request;
    request.set_cid(arguments.positionals()[1]);
    return request;
  }
  if (verb != "put") return absl::InvalidArgumentError("needs put or get as its first word");
  pb::PutBlockRequest request;
  const std::string codec = arguments.Get("codec").value_or("raw");
  if (codec != "raw" && codec != "dag-cbor") return absl::InvalidArgumentError("--codec needs raw or dag-cbor");
  request.set_codec(codec == "raw" ? pb::BLOCK_CODEC_RAW : pb::BLOCK_CODEC_DAG_CBOR);
  const auto expected = arguments.GetFilled("expected-cid");
  if (!expected.ok()) return expected.status();
  request.set_expected_cid(expected->value_or(""));
  absl::StatusOr<std::string> bytes = ReadInput(arguments.positionals()[1], in);
  if (!bytes.ok()) return bytes.status();
  request.set_data(*std::move(bytes));
  return request;
}

}  // namespace persistd::cli

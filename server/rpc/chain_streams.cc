// The streams of ChainService: a verification with its progress, and a history as a CAR file.
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/subject.h"
#include "server/ipld/any_cid.h"
#include "server/ipld/car.h"
#include "server/ipld/cid.h"
#include "server/ipld/event_block.h"
#include "server/rpc/chain_mapping.h"
#include "server/rpc/chain_service.h"

namespace persistd::rpc {
namespace {

namespace pb = cim::persistence::v1;

constexpr std::chrono::seconds kProgressInterval{1};
constexpr size_t kChunkBytes = 256u << 10;

// The bytes of a CAR file, on their way.
class CarStream {
 public:
  explicit CarStream(StreamWriter<pb::ExportCarResponse>* writer) : writer_(*writer) {}

  // False: nobody reads any more.
  base::Task<bool> Add(std::string bytes) {
    buffer_ += bytes;
    size_t sent = 0;
    for (; buffer_.size() - sent >= kChunkBytes; sent += kChunkBytes) {
      pb::ExportCarResponse message;
      message.set_data(buffer_.substr(sent, kChunkBytes));
      const bool more = co_await writer_.Write(message);
      if (!more) co_return false;
    }
    buffer_.erase(0, sent);
    co_return true;
  }

  base::Task<bool> End() {
    pb::ExportCarResponse message;
    message.set_data(std::move(buffer_));
    co_return co_await writer_.Write(message);
  }

 private:
  StreamWriter<pb::ExportCarResponse>& writer_;
  std::string buffer_{};
};

std::string Section(const std::string& cid, absl::string_view block) {
  return ipld::CarSection(ipld::AnyCid(*ipld::Cid::Parse(cid)), block);
}

}  // namespace

base::Task<absl::Status> ChainService::VerifyChain(const CallContext& context, const pb::VerifyChainRequest& request,
                                                   StreamWriter<pb::VerifyChainResponse>& writer) {
  CO_ASSIGN_OR_RETURN(repository::VerifyCommand command, ToVerifyCommand(request));
  const domain::AggregateRef ref = command.ref;
  base::SteadyTime next = options_.clock->SteadyNow() + kProgressInterval;
  // Lives as long as this call, for this frame waits for the result; so do the references.
  repository::VerifyProgressSink sink = [&](repository::VerifyProgress progress) -> base::Task<bool> {
    if (context.cancelled()) co_return false;
    if (options_.clock->SteadyNow() < next) co_return true;
    next = options_.clock->SteadyNow() + kProgressInterval;
    pb::VerifyChainResponse message;
    message.mutable_progress()->set_verified(progress.verified);
    message.mutable_progress()->set_total(progress.total);
    co_return co_await writer.Write(message);
  };
  absl::StatusOr<repository::Verification> verification =
      co_await repository_->VerifyChain(std::move(command), std::move(sink), context.deadline());
  if (!verification.ok()) co_return NamedAsChain(verification.status(), ref);
  pb::VerifyChainResponse message;
  ToProto(*verification, *message.mutable_result());
  co_await writer.Write(message);
  co_return absl::OkStatus();
}

base::Task<absl::StatusOr<ChainService::ChainedPart>> ChainService::FindChainedPart(const CallContext& context,
                                                                                    repository::VerifyCommand command) {
  const domain::AggregateRef ref = command.ref;
  const std::optional<uint64_t> to = command.to_version;
  repository::VerifyProgressSink sink = [&context](repository::VerifyProgress) -> base::Task<bool> {
    co_return !context.cancelled();
  };
  CO_ASSIGN_OR_RETURN(const repository::Verification verification,
                      co_await repository_->VerifyChain(std::move(command), std::move(sink), context.deadline()));
  const ipld::ChainResult& chain = verification.chain;
  if (chain.first_break.has_value()) {
    const ipld::ChainBreak& first = *chain.first_break;
    const std::vector<domain::StreamPosition>& places = verification.position.streams();
    co_return domain::CorruptData(
        places.empty() ? "" : places.front().stream, first.sequence,
        absl::StrCat("version ", first.version, ": ", std::string(ToString(first.reason)), ": ", first.detail),
        domain::CidPair{.expected = first.expected, .actual = first.actual});
  }
  if (chain.verifiable_from == 0) co_return domain::NotChained(ref);
  if (to.has_value() && *to > chain.head_version) co_return domain::VersionNotFound(ref, *to, chain.head_version);
  co_return ChainedPart{.first = chain.verifiable_from, .last = chain.head_version, .root = chain.head_cid};
}

base::Task<absl::Status> ChainService::ExportCar(const CallContext& context, const pb::ExportCarRequest& request,
                                                 StreamWriter<pb::ExportCarResponse>& writer) {
  CO_ASSIGN_OR_RETURN(repository::VerifyCommand command, ToVerifyCommand(request));
  const domain::AggregateRef ref = command.ref;
  // Read twice: the root comes first in the file, and so does the first event from which every other leads there.
  absl::StatusOr<ChainedPart> part = co_await FindChainedPart(context, std::move(command));
  if (!part.ok()) co_return NamedAsChain(part.status(), ref);
  CarStream car(&writer);
  bool open = co_await car.Add(ipld::CarHeader(ipld::AnyCid(*ipld::Cid::Parse(part->root))));
  std::string last_cid;
  repository::ChainSink sink = [&](repository::ChainedEvent chained) -> base::Task<bool> {
    const domain::RecordedEvent& event = chained.event;
    std::string sections = Section(event.cid, *ipld::EventBlock(event, chained.labels));
    if (!event.payload_cid.empty()) sections += Section(event.payload_cid, event.payload.data);
    last_cid = event.cid;
    open = co_await car.Add(std::move(sections));
    co_return open && !context.cancelled();
  };
  if (!open) co_return absl::OkStatus();
  CO_RETURN_IF_ERROR(
      co_await repository_->ReadChain(ref, part->first, part->last, std::move(sink), context.deadline()));
  if (!open) co_return absl::OkStatus();
  if (last_cid != part->root) co_return domain::Internal("the history has changed while it was exported");
  co_await car.End();
  co_return absl::OkStatus();
}

}  // namespace persistd::rpc

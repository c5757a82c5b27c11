#include "client/cli/cli.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <optional>
#include <variant>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "client/cli/arguments.h"
#include "client/cli/car_check.h"
#include "client/cli/chains.h"
#include "client/cli/error_text.h"
#include "client/cli/help.h"
#include "client/cli/json_text.h"
#include "client/cli/messages.h"
#include "client/cli/read_models.h"
#include "client/cli/requests.h"
#include "client/cli/stream_saves.h"
#include "client/cli/types.h"
#include "client/cpp/client.h"

namespace persistd::cli {
namespace {

namespace pb = cim::persistence::v1;
using client::Client;

const std::vector<FlagSpec>& GlobalFlags() {
  static const std::vector<FlagSpec>& flags =
      *new std::vector<FlagSpec>{{"address"}, {"timeout"}, {"help", FlagSpec::kSwitch}};
  return flags;
}

constexpr uint64_t kPageSize = 500;
// Saves under way of save-stream; the daemon's default for its side is 1024.
constexpr uint64_t kDefaultWindow = 256;
constexpr uint64_t kMostWindow = 100'000;

std::string Name(const pb::AggregateRef& ref) {
  return absl::StrCat(ref.context(), "/", ref.aggregate(), "/", ref.entity_id());
}

// One command being carried out.
class Command {
 public:
  Command(std::string name, const Environment& environment) : name_(std::move(name)), environment_(environment) {}

  int Save(const Arguments& arguments, const Client& client) {
    const auto request = BuildSave(arguments, environment_.in);
    if (!request.ok()) return UsageError(request.status());
    const auto response = client.Save(*request);
    if (!response.ok()) return CallError(request->ref(), response.status(), request->request_id());
    return PrintForPeople(ToJson(*response));
  }

  int Load(const Arguments& arguments, const Client& client) {
    const auto request = BuildLoad(arguments);
    if (!request.ok()) return UsageError(request.status());
    const auto response = client.Load(*request);
    if (!response.ok()) return CallError(request->ref(), response.status());
    return PrintForPeople(ToJson(*response));
  }

  int SaveAll(const Arguments& arguments, const Client& client) {
    const auto request = BuildSaveAll(arguments, environment_.in);
    if (!request.ok()) return UsageError(request.status());
    const auto response = client.SaveAll(*request);
    if (!response.ok()) return CallError(std::nullopt, response.status(), request->request_id());
    return PrintForPeople(ToJson(*response));
  }

  int SaveStream(const Arguments& arguments, const Client& client) {
    if (!arguments.positionals().empty()) return UsageError(absl::InvalidArgumentError("it takes only flags"));
    const auto window = arguments.GetNumber("window");
    if (!window.ok()) return UsageError(window.status());
    const uint64_t saves = window->value_or(kDefaultWindow);
    if (saves == 0 || saves > kMostWindow) {
      return UsageError(absl::InvalidArgumentError(absl::StrCat("--window needs a number from 1 to ", kMostWindow)));
    }
    const StreamSummary summary = StreamSaves(client, saves, environment_.in, environment_.err);
    const double rate = static_cast<double>(summary.saved) / std::max(summary.seconds, 1e-9);
    const int printed = Print(absl::StrCat(R"({"saved":)", summary.saved, R"(,"deduplicated":)", summary.deduplicated,
                                           R"(,"events":)", summary.events, R"(,"failed":)", summary.failed,
                                           R"(,"seconds":)", absl::StrFormat("%.3f", summary.seconds),
                                           R"(,"savesPerSecond":)", static_cast<uint64_t>(rate), "}"));
    if (!summary.end.ok()) return CallError(std::nullopt, summary.end);
    return summary.failed > 0 ? kExitCallFailed : printed;
  }

  int Delete(const Arguments& arguments, const Client& client) {
    const auto request = BuildDelete(arguments);
    if (!request.ok()) return UsageError(request.status());
    const auto response = client.DeleteAggregate(*request);
    if (!response.ok()) return CallError(request->ref(), response.status(), request->request_id());
    return PrintForPeople(ToJson(*response));
  }

  int Snapshot(const Arguments& arguments, const Client& client) {
    const auto request = BuildSnapshot(arguments);
    if (!request.ok()) return UsageError(request.status());
    if (const auto* const create = std::get_if<pb::CreateSnapshotRequest>(&*request)) {
      const auto response = client.CreateSnapshot(*create);
      return response.ok() ? PrintForPeople(ToJson(*response)) : CallError(create->ref(), response.status());
    }
    if (const auto* const remove = std::get_if<pb::DeleteSnapshotRequest>(&*request)) {
      const absl::Status status = client.DeleteSnapshot(*remove);
      return status.ok() ? kExitOk : CallError(remove->ref(), status);
    }
    const pb::AggregateRef& ref = std::get<pb::ListSnapshotsRequest>(*request).ref();
    const auto response = client.ListSnapshots(ref);
    if (!response.ok()) return CallError(ref, response.status());
    for (const pb::Snapshot& snapshot : response->snapshots()) {
      if (const int code = Print(ToJson(snapshot)); code != kExitOk) return code;
    }
    return kExitOk;
  }

  int List(const Arguments& arguments, const Client& client) {
    auto request = BuildList(arguments);
    if (!request.ok()) return UsageError(request.status());
    return PrintPages(
        arguments, *std::move(request), [&](const auto& page) { return client.ListAggregates(page); },
        &pb::ListAggregatesResponse::aggregates);
  }

  int History(const Arguments& arguments, const Client& client) {
    const auto request = BuildHistory(arguments);
    if (!request.ok()) return UsageError(request.status());
    const auto limit = arguments.GetNumber("limit");
    if (!limit.ok()) return UsageError(limit.status());
    client::HistoryReader reader = client.History(*request);
    return PrintEach(reader, limit->value_or(UINT64_MAX), request->ref());
  }

  int Chain(const Arguments& arguments, const Client& client) {
    const auto request = BuildChain(arguments, environment_.in);
    if (!request.ok()) return UsageError(request.status());
    if (const auto* const append = std::get_if<pb::AppendToChainRequest>(&*request)) {
      const auto response = client.AppendToChain(*append);
      if (!response.ok()) return CallError(std::nullopt, response.status(), append->request_id());
      return PrintForPeople(ToJson(*response));
    }
    const auto limit = arguments.GetNumber("limit");
    if (!limit.ok()) return UsageError(limit.status());
    client::ChainReader reader = client.Chain(std::get<pb::GetChainRequest>(*request));
    return PrintEach(reader, limit->value_or(UINT64_MAX), std::nullopt);
  }

  int Block(const Arguments& arguments, const Client& client) {
    const auto request = BuildBlock(arguments, environment_.in);
    if (!request.ok()) return UsageError(request.status());
    if (const auto* const put = std::get_if<pb::PutBlockRequest>(&*request)) return PrintAnswer(client.PutBlock(*put));
    const auto block = client.GetBlock(std::get<pb::GetBlockRequest>(*request).cid());
    if (!block.ok()) return CallError(std::nullopt, block.status());
    // As it is, for a file or another program.
    environment_.out << block->data() << std::flush;
    return environment_.out ? kExitOk : Fail("cannot write the output");
  }

  int ReadModel(const Arguments& arguments, const Client& client) {
    auto request = BuildReadModel(arguments, environment_.in);
    if (!request.ok()) return UsageError(request.status());
    if (const auto* const save = std::get_if<pb::SaveReadModelRequest>(&*request)) {
      const auto response = client.SaveReadModel(*save);
      if (!response.ok()) return CallError(std::nullopt, response.status(), save->request_id());
      return PrintForPeople(ToJson(*response));
    }
    if (const auto* const remove = std::get_if<pb::DeleteReadModelRequest>(&*request)) {
      const auto response = client.DeleteReadModel(*remove);
      if (!response.ok()) return CallError(std::nullopt, response.status(), remove->request_id());
      return PrintForPeople(ToJson(*response));
    }
    if (const auto* const get = std::get_if<pb::GetReadModelRequest>(&*request)) {
      return PrintAnswer(client.GetReadModel(*get));
    }
    return PrintPages(
        arguments, std::get<pb::ListReadModelsRequest>(*std::move(request)),
        [&](const auto& page) { return client.ListReadModels(page); }, &pb::ListReadModelsResponse::read_models);
  }

  int Verify(const Arguments& arguments, const Client& client) {
    if (const auto file = arguments.Get("car")) return VerifyCar(arguments, *file);
    const auto request = BuildVerify(arguments);
    if (!request.ok()) return UsageError(request.status());
    const auto verification = client.VerifyChain(*request, [this](const pb::VerifyProgress& progress) {
      environment_.err << "persistctl: " << name_ << ": " << progress.verified() << " of " << progress.total()
                       << " events" << std::endl;
    });
    if (!verification.ok()) return CallError(TargetOf(*request), verification.status());
    const int printed = PrintForPeople(ToJson(*verification));
    if (verification->valid()) return printed;
    return Fail(absl::StrCat("version ", verification->first_break().version(),
                             " is not as it was saved: ", verification->first_break().detail()));
  }

  int Export(const Arguments& arguments, const Client& client) {
    const auto request = BuildExport(arguments);
    if (!request.ok()) return UsageError(request.status());
    const auto path = arguments.Get("output");
    if (!path.has_value()) return UsageError(absl::InvalidArgumentError("needs -o FILE; - is standard output"));
    std::ofstream file;
    // Complete, or not there under its name.
    const std::string unfinished = *path + ".part";
    if (*path != "-") file.open(unfinished, std::ios::binary | std::ios::trunc);
    std::ostream& out = *path == "-" ? environment_.out : file;
    if (!out) return Fail(absl::StrCat("cannot write ", unfinished));
    absl::Status status = client.ExportCar(*request, [&out](const std::string& bytes) {
      out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
      return out.good();
    });
    out.flush();
    const bool written = out.good();
    if (*path == "-") {
      if (!written) return Fail("cannot write to standard output");
      return status.ok() ? kExitOk : CallError(TargetOf(*request), status);
    }
    file.close();
    if (written && status.ok() && file.good() && std::rename(unfinished.c_str(), path->c_str()) == 0) return kExitOk;
    std::remove(unfinished.c_str());
    if (!written || status.ok()) return Fail(absl::StrCat("cannot write ", *path));
    return CallError(TargetOf(*request), status);
  }

  int Info(const Arguments& arguments, const Client& client) {
    if (!arguments.positionals().empty()) return UsageError(absl::InvalidArgumentError("it takes no arguments"));
    const auto response = client.GetServerInfo();
    if (!response.ok()) return CallError(std::nullopt, response.status());
    return PrintForPeople(ToJson(*response));
  }

  int Types(const Arguments& arguments, const Client& client) {
    const auto request = BuildTypes(arguments);
    if (!request.ok()) return UsageError(request.status());
    return std::visit([&](const auto& typed) { return TypesCall(typed, client); }, *request);
  }

  int UsageError(const absl::Status& status) {
    const std::string program = name_.empty() ? "persistctl" : absl::StrCat("persistctl ", name_);
    environment_.err << program << ": " << status.message() << "\nSee " << program << " --help\n";
    return kExitUsage;
  }

 private:
  // Without a daemon.
  int VerifyCar(const Arguments& arguments, const std::string& path) {
    if (!arguments.positionals().empty()) return UsageError(absl::InvalidArgumentError("--car is all it needs"));
    for (const char* const flag : {"chain", "from", "to", "expect-head", "expect-previous"}) {
      if (arguments.Has(flag)) return UsageError(absl::InvalidArgumentError(absl::StrCat("--car takes no --", flag)));
    }
    std::ifstream file;
    if (path != "-") file.open(path, std::ios::binary);
    std::istream& in = path == "-" ? environment_.in : file;
    if (!in) return Fail(absl::StrCat("cannot read ", path));
    const auto root = arguments.GetFilled("expect-root");
    if (!root.ok()) return UsageError(root.status());
    const absl::StatusOr<CarSummary> summary = CheckCar(in, root->value_or(""));
    if (!summary.ok()) return Fail(summary.status().message());
    return PrintForPeople(ToJson(*summary));
  }

  template <typename Request>
  static std::optional<pb::AggregateRef> TargetOf(const Request& request) {
    if (!request.has_aggregate()) return std::nullopt;
    return request.aggregate();
  }

  int TypesCall(const pb::ListAggregateTypesRequest& request, const Client& client) {
    return PrintAnswer(client.ListAggregateTypes(request));
  }
  int TypesCall(const pb::DescribeAggregateTypeRequest& request, const Client& client) {
    return PrintAnswer(client.DescribeAggregateType(request));
  }
  int TypesCall(const pb::CreateAggregateTypeRequest& request, const Client& client) {
    return PrintAnswer(client.CreateAggregateType(request));
  }
  // The first ones that `reader` brings, one a line.
  template <typename Reader>
  int PrintEach(Reader& reader, uint64_t most, const std::optional<pb::AggregateRef>& ref) {
    for (uint64_t left = most; left > 0; --left) {
      const auto item = reader.Next();
      if (!item.ok()) return CallError(ref, item.status());
      if (!item->has_value()) break;
      if (const int code = Print(ToJson(**item)); code != kExitOk) return code;
    }
    return kExitOk;
  }

  // What a list has, page by page, one item a line, up to --limit.
  template <typename Request, typename List, typename Response, typename Item>
  int PrintPages(const Arguments& arguments, Request request, const List& list,
                 const google::protobuf::RepeatedPtrField<Item>& (Response::*items)() const) {
    const auto limit = arguments.GetNumber("limit");
    if (!limit.ok()) return UsageError(limit.status());
    uint64_t left = limit->value_or(UINT64_MAX);
    request.set_page_size(static_cast<int32_t>(std::min<uint64_t>(left, kPageSize)));
    while (left > 0) {
      const auto page = list(request);
      if (!page.ok()) return CallError(std::nullopt, page.status());
      for (const Item& item : ((*page).*items)()) {
        if (left-- == 0) return kExitOk;
        if (const int code = Print(ToJson(item)); code != kExitOk) return code;
      }
      if (page->next_page_token().empty()) break;
      request.set_page_token(page->next_page_token());
    }
    return kExitOk;
  }

  template <typename Response>
  int PrintAnswer(const absl::StatusOr<Response>& response) {
    if (!response.ok()) return CallError(std::nullopt, response.status());
    return PrintForPeople(ToJson(*response));
  }

  int CallError(const std::optional<pb::AggregateRef>& ref, const absl::Status& status,
                const std::string& request_id = "") {
    const std::string what = ref.has_value() ? absl::StrCat(name_, " ", Name(*ref)) : name_;
    environment_.err << ErrorText(what, status, request_id);
    return kExitCallFailed;
  }

  int PrintForPeople(const absl::StatusOr<std::string>& json) {
    return json.ok() ? Print(PrettyJson(*json)) : Print(json);
  }

  int Print(const absl::StatusOr<std::string>& json) {
    if (!json.ok()) return Fail(json.status().message());
    // Flushed line by line, so that whoever reads a history through a pipe sees each event when it arrives.
    environment_.out << *json << std::endl;
    return environment_.out ? kExitOk : Fail("cannot write the output");
  }

  int Fail(absl::string_view why) {
    environment_.err << "persistctl: " << name_ << ": " << why << "\n";
    return kExitCallFailed;
  }

  const std::string name_;
  const Environment& environment_;
};

struct CommandSpec {
  const char* name;
  int (Command::*run)(const Arguments&, const Client&);
  std::vector<FlagSpec> flags;
};

const CommandSpec* FindCommand(const std::string& name) {
  static const std::vector<CommandSpec>& commands = *new std::vector<CommandSpec>{
      {"save", &Command::Save, SaveFlags()},
      {"load", &Command::Load, LoadFlags()},
      {"history", &Command::History, HistoryFlags()},
      {"save-all", &Command::SaveAll, SaveAllFlags()},
      {"save-stream", &Command::SaveStream, {{"window"}}},
      {"delete", &Command::Delete, DeleteFlags()},
      {"snapshot", &Command::Snapshot, SnapshotFlags()},
      {"list", &Command::List, ListFlags()},
      {"chain", &Command::Chain, ChainFlags()},
      {"block", &Command::Block, BlockFlags()},
      {"read-model", &Command::ReadModel, ReadModelFlags()},
      {"verify", &Command::Verify, VerifyFlags()},
      {"export", &Command::Export, ExportFlags()},
      {"info", &Command::Info, {}},
      {"types", &Command::Types, TypesFlags()},
  };
  for (const CommandSpec& command : commands) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

// `before` and `after` are what stands before and after the command's name.
absl::StatusOr<Client> Connect(const Arguments& before, const Arguments& after, const Environment& environment) {
  const auto get = [&](const char* flag) { return after.Has(flag) ? after.Get(flag) : before.Get(flag); };
  client::Options options;
  if (const char* const address = environment.getenv("PERSISTCTL_ADDRESS"); address != nullptr && *address != '\0') {
    options.address = address;
  }
  if (const auto address = get("address")) options.address = *address;
  if (const auto text = get("timeout")) {
    absl::Duration timeout;
    if (!absl::ParseDuration(*text, &timeout) || timeout < absl::Milliseconds(1) || timeout > absl::Hours(24)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--timeout needs a time from 1ms to 24h, like 500ms, 5s or 2m, not \"", *text, "\""));
    }
    options.default_timeout = absl::ToChronoMilliseconds(timeout);
    options.retry.max_elapsed = options.default_timeout;
  }
  return Client::Connect(options);
}

}  // namespace

int Run(const std::vector<std::string>& args, const Environment& environment) {
  for (const std::string& arg : args) {
    if (IsUtf8(arg)) continue;
    return Command("", environment).UsageError(absl::InvalidArgumentError("an argument is not valid UTF-8"));
  }
  const auto before = Arguments::Parse(args, GlobalFlags(), /*stop_at_positional=*/true);
  if (!before.ok()) return Command("", environment).UsageError(before.status());
  std::vector<std::string> rest = before->rest();
  const std::string name = rest.empty() ? "" : rest.front();
  if (before->Has("help") || name == "help") {
    environment.out << HelpText(name == "help" && rest.size() > 1 ? rest[1] : name);
    return kExitOk;
  }
  if (name.empty()) {
    environment.err << HelpText("");
    return kExitUsage;
  }
  const CommandSpec* const spec = FindCommand(name);
  if (spec == nullptr) {
    return Command("", environment)
        .UsageError(absl::InvalidArgumentError(absl::StrCat("there is no command \"", name, "\"")));
  }

  Command command(name, environment);
  std::vector<FlagSpec> flags = GlobalFlags();
  flags.insert(flags.end(), spec->flags.begin(), spec->flags.end());
  rest.erase(rest.begin());
  const auto arguments = Arguments::Parse(rest, flags);
  if (!arguments.ok()) return command.UsageError(arguments.status());
  if (arguments->Has("help")) {
    environment.out << HelpText(name);
    return kExitOk;
  }
  const auto client = Connect(*before, *arguments, environment);
  if (!client.ok()) return command.UsageError(client.status());
  return (command.*spec->run)(*arguments, *client);
}

}  // namespace persistd::cli

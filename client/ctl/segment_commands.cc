// `tenurectl publish`, `attach` and `unpublish`: they open a session as any client does.
#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include <nlohmann/json.hpp>

#include "client/client.h"
#include "client/ctl/commands.h"
#include "client/ctl/proto_json.h"
#include "client/ctl/text.h"
#include "client/segment.h"
#include "client/weights/digest.h"
#include "client/weights_file.h"
#include "common/bytes.h"
#include "common/clock.h"

namespace tenure::ctl {
namespace {

using Json = nlohmann::ordered_json;

std::string Milliseconds(absl::Duration span) {
  return absl::FormatDuration(absl::Floor(span, absl::Microseconds(10)));
}

// "1.2 GiB in 1 block with 723 tensors".
std::string Describe(const Segment& segment) {
  return absl::StrCat(FormatBytes(segment.size()), " in ", Count(segment.blocks().size(), "block"),
                      " with ", Count(segment.tensors().size(), "tensor"));
}

Json ToJson(const Segment& segment, const char* span_name, absl::Duration span) {
  return {{"name", segment.name()},
          {"size_bytes", segment.size().value()},
          {"blocks", segment.blocks().size()},
          {"tensors", segment.tensors().size()},
          {"memory_kind", std::string(NameOf(segment.blocks().front().kind))},
          {"digest", DigestInHex(segment.digest())},
          {"survives_daemon", segment.survives_daemon()},
          {span_name, absl::ToDoubleMilliseconds(span)}};
}

// Publishes the file. Uses AttachOrLoad, which claims the name first: when the name is taken, the
// file is not loaded at all.
absl::StatusOr<Segment> PublishFile(Client& client, const WeightsFile& file,
                                    const SegmentOptions& segment) {
  bool loaded = false;
  const auto load = [&](Client& loader) {
    loaded = true;
    return file.Load(loader, {.memory_kind = segment.kind});
  };
  absl::StatusOr<Segment> published = client.AttachOrLoad(
      segment.name, load, {.allowed_uids = segment.allowed_uids, .wait = absl::ZeroDuration()});
  // With a wait of zero, DEADLINE_EXCEEDED means that another process is loading this name. Exit
  // code 4
  // ("unreachable") would be wrong for that, because the daemon has answered.
  if (absl::IsDeadlineExceeded(published.status()) && client.status().ok()) {
    return absl::FailedPreconditionError(published.status().message());
  }
  if (loaded || !published.ok()) return published;
  return absl::AlreadyExistsError(absl::StrCat("segment '", segment.name,
                                               "' is already published; attach it, or unpublish it "
                                               "first"));
}

}  // namespace

ExitCode RunPublish(const CommonOptions& options, const SegmentOptions& segment) {
  // The file is opened before the session, because a wrong path needs neither a session nor a
  // context.
  const absl::StatusOr<WeightsFile> file = WeightsFile::Open(segment.file);
  if (!file.ok()) return Fail(file.status(), Stage::kCalling);
  absl::StatusOr<Client> client = Client::Connect({.socket = options.socket});
  if (!client.ok()) return Fail(client.status(), Stage::kConnecting);
  const BootTime began = SystemClock().Now();
  absl::StatusOr<Segment> published = PublishFile(*client, *file, segment);
  if (!published.ok()) return Fail(published.status(), Stage::kCalling);
  const absl::Duration took = SystemClock().Now() - began;
  if (options.json) {
    std::cout << TextOf(ToJson(*published, "load_ms", took)) << "\n";
  } else {
    std::cout << "published '" << Printable(segment.name) << "': " << Describe(*published)
              << ", loaded in " << Milliseconds(took) << "\nsha256 tree "
              << DigestInHex(published->digest()) << "\n"
              << (published->survives_daemon() ? "it outlives the daemon's process"
                                               : "it ends with the daemon's process")
              << "; `tenurectl unpublish " << Printable(segment.name) << "` ends it\n";
  }
  const absl::Status detached = published->Detach();
  return detached.ok() ? kOk : Fail(detached, Stage::kCalling);
}

ExitCode RunAttach(const CommonOptions& options, const SegmentOptions& segment) {
  absl::StatusOr<Client> client = Client::Connect({.socket = options.socket});
  if (!client.ok()) return Fail(client.status(), Stage::kConnecting);
  const BootTime began = SystemClock().Now();
  absl::StatusOr<Segment> attached = client->Attach(segment.name, segment.owner_uid);
  if (!attached.ok()) return Fail(attached.status(), Stage::kCalling);
  // Attaching and reading back are timed separately, because attaching maps without a copy and is
  // far faster.
  const BootTime mapped = SystemClock().Now();
  const absl::Status verified = segment.check ? attached->Verify() : absl::OkStatus();
  if (!verified.ok()) return Fail(verified, Stage::kCalling);
  const absl::Duration reading = SystemClock().Now() - mapped;
  if (options.json) {
    Json json = ToJson(*attached, "attach_ms", mapped - began);
    json["checked"] = segment.check;
    if (segment.check) json["check_ms"] = absl::ToDoubleMilliseconds(reading);
    std::cout << TextOf(json) << "\n";
  } else {
    std::cout << "attached '" << Printable(segment.name) << "': " << Describe(*attached) << ", in "
              << Milliseconds(mapped - began) << "\n";
    if (segment.check) {
      std::cout << "the contents are those that were published: sha256 tree "
                << DigestInHex(attached->digest()) << ", read back in " << Milliseconds(reading)
                << "\n";
    }
  }
  const absl::Status detached = attached->Detach();
  return detached.ok() ? kOk : Fail(detached, Stage::kCalling);
}

ExitCode RunUnpublish(const CommonOptions& options, const SegmentOptions& segment) {
  // Without mapping: to unpublish needs no context on the device, which would take half a gigabyte.
  absl::StatusOr<Client> client = Client::Connect({.socket = options.socket, .map = false});
  if (!client.ok()) return Fail(client.status(), Stage::kConnecting);
  const absl::Status ended = client->Unpublish(segment.name, segment.force, segment.owner_uid);
  if (!ended.ok()) return Fail(ended, Stage::kCalling);
  if (options.json) {
    std::cout << TextOf(Json{{"name", segment.name}}) << "\n";
  } else {
    std::cout << "'" << Printable(segment.name) << "' is unpublished\n";
  }
  return kOk;
}

}  // namespace tenure::ctl

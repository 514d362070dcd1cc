// {"position": "1048576:20000:with", "task": 20000, "batches": 120, "etag": "…",
//  "hashed": 1048576, "hash": "…", "unavailable_since_ms": 1700000000000}
#include "services/controller/manifest/prepare_progress.h"

#include <exception>

#include "absl/strings/str_cat.h"
#include "common/status/status.h"
#include "nlohmann/json.hpp"

namespace drover {

std::string PrepareProgress::Serialize() const {
  nlohmann::json json = {
      {"position", position.Serialize()}, {"task", next_task}, {"batches", batches}, {"etag", etag}};
  if (hashed > 0) {
    json["hashed"] = hashed;
    json["hash"] = hash.Save();
  }
  if (unavailable_since) json["unavailable_since_ms"] = absl::ToUnixMillis(*unavailable_since);
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

absl::StatusOr<PrepareProgress> PrepareProgress::Parse(std::string_view text) {
  PrepareProgress progress;
  if (text.empty()) return progress;
  try {
    const nlohmann::json json = nlohmann::json::parse(text);
    DROVER_ASSIGN_OR_RETURN(progress.position, CsvPosition::Parse(json.at("position").get<std::string>()));
    progress.next_task = json.at("task").get<int64_t>();
    progress.batches = json.at("batches").get<int64_t>();
    progress.etag = json.at("etag").get<std::string>();
    if (json.contains("hashed")) {
      progress.hashed = json.at("hashed").get<int64_t>();
      DROVER_ASSIGN_OR_RETURN(progress.hash, ResumableSha256::Restore(json.at("hash").get<std::string>()));
    }
    if (json.contains("unavailable_since_ms")) {
      progress.unavailable_since = absl::FromUnixMillis(json.at("unavailable_since_ms").get<int64_t>());
    }
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("not the progress of a preparation: ", error.what()));
  }
  if (progress.next_task < 0 || progress.batches < 0 || progress.hashed < 0 ||
      progress.hashed > progress.position.offset) {
    return absl::InvalidArgumentError("not the progress of a preparation: numbers out of range");
  }
  return progress;
}

}  // namespace drover

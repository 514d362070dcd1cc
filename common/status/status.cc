#include "common/status/status.h"

#include "absl/strings/cord.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

// The payload is private to this file: fields separated by bytes that cannot occur in a path or reason, each
// string preceded by its length.
constexpr char kPayloadUrl[] = "drover.dev/ErrorDetails";

void Put(std::string& out, std::string_view text) { StrAppend(&out, text.size(), ":", text); }

bool Take(std::string_view& in, std::string& out) {
  size_t length = 0;
  size_t i = 0;
  while (i < in.size() && in[i] >= '0' && in[i] <= '9')
    length = length * 10 + static_cast<size_t>(in[i++] - '0');
  if (i == 0 || i >= in.size() || in[i] != ':' || in.size() - i - 1 < length) return false;
  out = std::string(in.substr(i + 1, length));
  in.remove_prefix(i + 1 + length);
  return true;
}

void Attach(absl::Status& status, const ErrorDetails& details) {
  std::string payload;
  Put(payload, details.reason);
  Put(payload, StrCat(details.metadata.size()));
  for (const auto& [key, value] : details.metadata) {
    Put(payload, key);
    Put(payload, value);
  }
  for (const auto& [path, description] : details.fields) {
    Put(payload, path);
    Put(payload, description);
  }
  status.SetPayload(kPayloadUrl, absl::Cord(payload));
}

}  // namespace

absl::Status Error(absl::StatusCode code, std::string_view reason, std::string_view message,
                   std::map<std::string, std::string> metadata) {
  absl::Status status(code, ToAbsl(message));
  Attach(status, {std::string(reason), std::move(metadata), {}});
  return status;
}

std::optional<ErrorDetails> GetErrorDetails(const absl::Status& status) {
  const auto payload = status.GetPayload(kPayloadUrl);
  if (!payload.has_value()) return std::nullopt;
  const std::string flat(*payload);
  std::string_view in = flat;
  ErrorDetails details;
  std::string count;
  if (!Take(in, details.reason) || !Take(in, count)) return std::nullopt;
  for (int i = std::stoi(count); i > 0; --i) {
    std::string key;
    std::string value;
    if (!Take(in, key) || !Take(in, value)) return std::nullopt;
    details.metadata.emplace(std::move(key), std::move(value));
  }
  while (!in.empty()) {
    std::string path;
    std::string description;
    if (!Take(in, path) || !Take(in, description)) return std::nullopt;
    details.fields.emplace_back(std::move(path), std::move(description));
  }
  return details;
}

void FieldErrors::Add(std::string_view path, std::string_view description) {
  fields_.emplace_back(path, description);
}

absl::Status FieldErrors::ToStatus(absl::StatusCode code, std::string_view reason) const {
  std::string message;
  for (size_t i = 0; i < fields_.size() && i < 5; ++i) {
    StrAppend(&message, i == 0 ? "" : "; ", fields_[i].first, ": ", fields_[i].second);
  }
  absl::Status status(code, message);
  Attach(status, {std::string(reason), {}, fields_});
  return status;
}

}  // namespace drover

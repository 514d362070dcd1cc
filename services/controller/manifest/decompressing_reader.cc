#include "services/controller/manifest/decompressing_reader.h"

#include <utility>

#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

constexpr size_t kInputBytes = 128 << 10;

absl::Status TooLarge(std::string_view what) {
  return Error(absl::StatusCode::kInvalidArgument, "COMPRESSED_DATA_TOO_LARGE", what);
}

}  // namespace

DecompressingReader::DecompressingReader(std::unique_ptr<ObjectReader> stored, Compression compression,
                                         std::function<void(std::string_view)> on_stored)
    : stored_(std::move(stored)),
      decompressor_(MakeDecompressor(compression)),
      on_stored_(std::move(on_stored)),
      buffer_(std::make_unique_for_overwrite<char[]>(kInputBytes)) {}

absl::StatusOr<size_t> DecompressingReader::Read(char* buffer, size_t size) {
  while (error_.ok()) {
    if (in_.empty() && !more_to_come_) {
      if (at_end_) {
        error_ = At(decompressor_->AtEnd());
        if (error_.ok()) return 0;
        break;
      }
      error_ = Fetch();
      continue;
    }
    Decompressor::Step step;
    const absl::Status status = decompressor_->Run(in_, buffer, size, step);
    in_.remove_prefix(step.consumed);
    consumed_ += static_cast<int64_t>(step.consumed);
    produced_ += static_cast<int64_t>(step.produced);
    if (step.produced > 0) silent_since_ = consumed_;
    more_to_come_ = step.produced == size;
    error_ = At(status.ok() ? CheckLimits() : status);
    if (step.produced > 0) return step.produced;  // an error comes with the next call
  }
  return error_;
}

absl::Status DecompressingReader::Fetch() {
  const absl::StatusOr<size_t> n = stored_->Read(buffer_.get(), kInputBytes);
  if (!n.ok()) return n.status();
  in_ = {buffer_.get(), *n};
  at_end_ = *n == 0;
  if (on_stored_ && !at_end_) on_stored_(in_);
  return absl::OkStatus();
}

absl::Status DecompressingReader::CheckLimits() const {
  if (produced_ > kFreeContentBytes + kMaxContentRatio * consumed_) {
    return TooLarge(StrCat("it holds more than ", kMaxContentRatio, " times its own size"));
  }
  if (consumed_ - silent_since_ > kMaxSilentBytes) {
    return TooLarge(StrCat("more than ", kMaxSilentBytes >> 20, " MiB of it hold nothing"));
  }
  return absl::OkStatus();
}

// `status` with where it happened.
absl::Status DecompressingReader::At(const absl::Status& status) const {
  const std::optional<ErrorDetails> details = GetErrorDetails(status);
  if (!details) return status;
  return Error(status.code(), details->reason,
               StrCat(FromAbsl(status.message()), ", at about byte ", consumed_, " (byte ", produced_,
                      " of its content)"));
}

}  // namespace drover

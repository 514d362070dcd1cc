#include "services/worker/operations/body_pipe.h"

#include <utility>

#include "common/strings/strings.h"

namespace drover {

BodyPipe::BodyPipe(const boost::asio::any_io_executor& executor, uint64_t size,
                   std::optional<std::string> md5, HeadCheck check_head)
    : executor_(executor), size_(size), expected_md5_(std::move(md5)), check_head_(std::move(check_head)) {}

void BodyPipe::Wake(std::optional<Event>& event) {
  if (event.has_value()) event->Set();
}

boost::asio::awaitable<void> BodyPipe::Wait(std::optional<Event>& event) {
  event.emplace(executor_);
  co_await event->Wait();
  event.reset();
}

boost::asio::awaitable<bool> BodyPipe::Opened() {
  if (!opened_ && !read_ended_) co_await Wait(opener_);
  co_return opened_;
}

void BodyPipe::EndReading() {
  read_ended_ = true;
  if (read_error_.ok() && read_ < size_ && !write_ended_) {
    read_error_ =
        absl::UnavailableError(ToAbsl(StrCat("the source ended after ", read_, " of ", size_, " bytes")));
  }
  Wake(opener_);
  Wake(writer_);
}

void BodyPipe::EndWriting() {
  write_ended_ = true;
  lent_ = false;
  Wake(reader_);
}

boost::asio::awaitable<absl::Status> BodyPipe::OnHead(const HttpResponse& head) {
  absl::Status status = check_head_(head);
  if (status.ok()) {
    opened_ = true;
    Wake(opener_);
  }
  co_return status;
}

boost::asio::awaitable<absl::Status> BodyPipe::OnData(std::string_view data) {
  if (write_ended_) co_return absl::CancelledError("nobody takes the body any more");
  md5_.Update(data);
  read_ += data.size();
  if (read_ == size_) digest_ = md5_.Finish();
  if (read_ > size_) {
    read_error_ = absl::UnavailableError(ToAbsl(StrCat("the source has more than ", size_, " bytes")));
    co_return read_error_;
  }
  if (read_ == size_ && expected_md5_.has_value() && digest_ != expected_md5_) {
    wrong_md5_ = true;
    read_error_ = absl::DataLossError("what was read has another MD5 than the source's ETag");
    co_return read_error_;
  }
  piece_ = data;
  Wake(writer_);
  // Until the piece has been written, for its bytes are the reader's. Of the last one that is known only when
  // the writing has ended.
  while (!write_ended_ && (!piece_.empty() || lent_)) co_await Wait(reader_);
  if (complete()) co_return absl::OkStatus();
  co_return write_ended_ ? absl::CancelledError("nobody takes the body any more") : absl::OkStatus();
}

boost::asio::awaitable<absl::StatusOr<std::string_view>> BodyPipe::Next() {
  if (lent_) {
    lent_ = false;
    Wake(reader_);
  }
  while (piece_.empty() && !read_ended_ && read_error_.ok()) co_await Wait(writer_);
  if (piece_.empty()) {
    co_return read_error_.ok() ? absl::UnavailableError("the source ended early") : read_error_;
  }
  lent_ = true;
  handed_ += piece_.size();
  co_return std::exchange(piece_, {});
}

}  // namespace drover

// Hands the body of one request's answer on to another request, as its body, while both are under way: the
// middle of a copy across two stores. Nothing is kept but the piece that the first request has just read, so
// each side is held back by the other.
#ifndef DROVER_SERVICES_WORKER_OPERATIONS_BODY_PIPE_H_
#define DROVER_SERVICES_WORKER_OPERATIONS_BODY_PIPE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/hash/md5.h"
#include "common/http/client.h"
#include "common/http/event.h"

namespace drover {

// The sink of the reading request and the source of the writing one. Of these two there is one each, on one
// thread; both must have ended before it is destroyed.
//
// The last piece is handed on only if the length and the MD5 of the whole are right, so that a writer which
// was given all has been given what was meant.
class BodyPipe final : public HttpBodySink, public HttpBodySource {
 public:
  using HeadCheck = std::function<absl::Status(const HttpResponse&)>;

  // `size` bytes, above 0, will pass. `md5`, if there is one, is what they must have: 16 bytes. `check_head`
  // looks at the head of the answer that is read; its error ends the reading.
  BodyPipe(const boost::asio::any_io_executor& executor, uint64_t size, std::optional<std::string> md5,
           HeadCheck check_head);

  // --- For whoever runs the two requests.

  // Waits until the head of the answer has come and been found good: true. False: reading ended without that.
  boost::asio::awaitable<bool> Opened();
  // The reading request has ended. What is missing then won't come.
  void EndReading();
  // The writing request has ended, or there won't be one: nothing more is taken.
  void EndWriting();
  // Whether the last piece was handed on.
  bool complete() const { return handed_ == size_; }
  // Why the body can't be handed on as a whole, if the reading side is to blame: DATA_LOSS for a wrong MD5
  // (`wrong_md5`), UNAVAILABLE for an end that came early.
  const absl::Status& read_error() const { return read_error_; }
  bool wrong_md5() const { return wrong_md5_; }
  // Of what was read: 16 bytes, once complete(); nothing where MD5 is forbidden.
  const std::optional<std::string>& md5() const { return digest_; }

  // --- For the two requests.
  boost::asio::awaitable<absl::Status> OnHead(const HttpResponse& head) override;
  boost::asio::awaitable<absl::Status> OnData(std::string_view data) override;
  uint64_t size() const override { return size_; }
  boost::asio::awaitable<absl::StatusOr<std::string_view>> Next() override;

 private:
  // Wakes the coroutine that waits at `event`, if one does.
  static void Wake(std::optional<Event>& event);
  boost::asio::awaitable<void> Wait(std::optional<Event>& event);

  const boost::asio::any_io_executor executor_;
  const uint64_t size_;
  const std::optional<std::string> expected_md5_;
  const HeadCheck check_head_;

  std::string_view piece_;  // read and not yet handed on; empty: none
  bool lent_ = false;       // the writer works on a piece
  uint64_t read_ = 0;       // bytes
  uint64_t handed_ = 0;     // bytes given to the writer
  bool opened_ = false;
  bool read_ended_ = false;
  bool write_ended_ = false;
  bool wrong_md5_ = false;
  absl::Status read_error_;
  Md5 md5_;
  std::optional<std::string> digest_;
  std::optional<Event> reader_;  // waits until its piece was written
  std::optional<Event> writer_;  // waits for a piece
  std::optional<Event> opener_;  // waits for the head
};

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_OPERATIONS_BODY_PIPE_H_

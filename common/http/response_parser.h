// Turns the bytes of a connection into an HTTP/1.1 answer: Beast's parser, kept out of everybody else's
// headers.
#ifndef DROVER_COMMON_HTTP_RESPONSE_PARSER_H_
#define DROVER_COMMON_HTTP_RESPONSE_PARSER_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/http/client.h"

namespace drover {

// One per connection, used again for each answer. Never sees the same byte twice: what Put() did not consume
// must be put again, with more behind it and contiguous.
class HttpResponseParser {
 public:
  enum class Result {
    kMore,       // needs more bytes
    kInterim,    // a 1xx answer is over (the server said "go on"); the real one is still to come
    kDone,       // the answer is whole
    kMalformed,  // not HTTP, or a head above kHttpMaxHead; error() says what
    kTooLarge,   // the body is longer than allowed
  };

  HttpResponseParser();
  ~HttpResponseParser();
  HttpResponseParser(const HttpResponseParser&) = delete;
  HttpResponseParser& operator=(const HttpResponseParser&) = delete;

  // Before each answer. With `stream` the body of a 2xx answer is not kept but appears in pieces().
  void Start(bool to_head_request, size_t max_body, bool stream);

  // Parses; `*consumed` bytes were taken from the front of `data`.
  Result Put(std::string_view data, size_t* consumed);
  // The connection was closed by the server: the end of an answer without a length, or kMore if it is cut
  // short.
  Result PutEof();

  // What the last Put() found of a streamed body: views into its `data`.
  const std::vector<std::string_view>& pieces() const { return pieces_; }

  bool head_done() const { return head_done_; }
  // Whether the body goes to pieces().
  bool streaming() const { return head_done_ && stream_ && response_.status / 100 == 2; }
  // Whether the connection may be used again after kDone.
  bool keep_alive() const;
  const std::string& error() const { return error_; }
  HttpResponse& response() { return response_; }

 private:
  class Parser;
  friend class Parser;

  void Begin();

  std::unique_ptr<Parser> parser_;
  HttpResponse response_;
  std::vector<std::string_view> pieces_;
  std::string error_;
  size_t max_body_ = 0;
  bool to_head_request_ = false;
  bool stream_ = false;
  bool head_done_ = false;
};

}  // namespace drover

#endif  // DROVER_COMMON_HTTP_RESPONSE_PARSER_H_

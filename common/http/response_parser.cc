#include "common/http/response_parser.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>

namespace drover {

namespace http = boost::beast::http;
using boost::beast::string_view;
using boost::system::error_code;

// Beast calls back for each thing that it finds; basic_parser is used rather than response_parser to put the
// fields where they are wanted at once.
class HttpResponseParser::Parser {
 public:
  explicit Parser(HttpResponseParser& owner) : owner_(owner) {}

  // basic_parser can't be reset: a new one in the same place costs nothing.
  void Restart() { message_.emplace(owner_); }
  http::basic_parser<false>& message() { return *message_; }

 private:
  class Message final : public http::basic_parser<false> {
   public:
    explicit Message(HttpResponseParser& owner) : owner_(owner) {
      eager(true);
      header_limit(kHttpMaxHead);
      body_limit(boost::none);  // owner_.max_body_ holds, and only for bodies that are kept
      skip(owner.to_head_request_);
    }

   private:
    void on_request_impl(http::verb, string_view, string_view, int, error_code&) override {}
    void on_response_impl(int code, string_view, int, error_code&) override {
      owner_.response_.status = code;
    }
    void on_field_impl(http::field, string_view name, string_view value, error_code&) override {
      owner_.response_.headers.Add({name.data(), name.size()}, {value.data(), value.size()});
    }
    void on_header_impl(error_code&) override { owner_.head_done_ = owner_.response_.status / 100 != 1; }
    void on_body_init_impl(const boost::optional<uint64_t>& length, error_code& ec) override {
      if (owner_.streaming() || !length.has_value()) return;
      if (*length > owner_.max_body_) {
        ec = http::error::body_limit;
        return;
      }
      owner_.response_.body.reserve(static_cast<size_t>(*length));
    }
    size_t on_body_impl(string_view data, error_code& ec) override { return Take(data, ec); }
    void on_chunk_header_impl(uint64_t, string_view, error_code&) override {}
    size_t on_chunk_body_impl(uint64_t, string_view data, error_code& ec) override { return Take(data, ec); }
    void on_finish_impl(error_code&) override {}

    size_t Take(string_view data, error_code& ec) {
      if (owner_.streaming()) {
        if (!data.empty()) owner_.pieces_.emplace_back(data.data(), data.size());
      } else if (data.size() > owner_.max_body_ - owner_.response_.body.size()) {
        ec = http::error::body_limit;
      } else {
        owner_.response_.body.append(data.data(), data.size());
      }
      return data.size();
    }

    HttpResponseParser& owner_;
  };

  HttpResponseParser& owner_;
  std::optional<Message> message_;
};

HttpResponseParser::HttpResponseParser() : parser_(std::make_unique<Parser>(*this)) {}
HttpResponseParser::~HttpResponseParser() = default;

void HttpResponseParser::Start(bool to_head_request, size_t max_body, bool stream) {
  to_head_request_ = to_head_request;
  max_body_ = max_body;
  stream_ = stream;
  error_.clear();
  Begin();
}

void HttpResponseParser::Begin() {
  response_ = HttpResponse();
  response_.headers.Reserve(12);  // what S3 answers have
  head_done_ = false;
  pieces_.clear();
  parser_->Restart();
}

HttpResponseParser::Result HttpResponseParser::Put(std::string_view data, size_t* consumed) {
  pieces_.clear();
  error_code ec;
  *consumed = parser_->message().put(boost::asio::const_buffer(data.data(), data.size()), ec);
  if (ec && ec != http::error::need_more) {
    if (ec == http::error::body_limit) return Result::kTooLarge;
    error_ = ec.message();
    return Result::kMalformed;
  }
  if (!parser_->message().is_done()) return Result::kMore;
  if (response_.status / 100 == 1) {
    if (response_.status == 101) {
      error_ = "the server switches protocols unasked";
      return Result::kMalformed;
    }
    Begin();
    return Result::kInterim;
  }
  return Result::kDone;
}

HttpResponseParser::Result HttpResponseParser::PutEof() {
  pieces_.clear();
  if (!head_done_ || !parser_->message().need_eof()) return Result::kMore;
  error_code ec;
  parser_->message().put_eof(ec);
  return ec ? Result::kMore : Result::kDone;
}

bool HttpResponseParser::keep_alive() const { return parser_->message().keep_alive(); }

}  // namespace drover

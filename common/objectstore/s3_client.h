// S3 requests, signed, over the event-driven HTTP client: what the worker's operations and S3ObjectStore are
// made of.
//
//   S3Client s3(*stores.Find("archive"), http, SystemClock());
//   S3Request request{.method = "PUT", .bucket = "b", .key = "a key", .query = {{"tagging", ""}}};
//   request.body = TaggingXml({{"class", "cold"}});
//   auto answer = co_await s3.Send(std::move(request), &cancel);  // g++ 12 can't co_await a call with {…} in
//   it if (!answer.ok()) ...                       // no answer: GetHttpError() says how far it came if
//   (!answer->ok()) ... answer->error_code   // "NoSuchKey"
#ifndef DROVER_COMMON_OBJECTSTORE_S3_CLIENT_H_
#define DROVER_COMMON_OBJECTSTORE_S3_CLIENT_H_

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "common/http/client.h"
#include "common/objectstore/sigv4.h"
#include "common/objectstore/stores.h"

namespace drover {

struct S3Request {
  std::string method;
  std::string bucket;
  // Any bytes, not encoded; "": the request is about the bucket.
  std::string key;
  QueryParams query;
  // Sent and signed; see S3Client for those that are added.
  HttpHeaders headers;
  std::string body;
  // Sent instead of `body` if not empty. Must stay valid until Send() is done.
  std::string_view borrowed_body;
  // Gives the body instead of both, piece by piece; it is not hashed for the signature (UNSIGNED-PAYLOAD), so
  // give the store a Content-MD5 or compare what it stored.
  HttpBodySource* body_source = nullptr;
  // Adds Content-MD5 of the body: DeleteObjects, PutObjectTagging with object lock and some others want it.
  bool content_md5 = false;
  // "": kDefaultUserAgent. Operations put the job's id into it, so that a store's log can be matched with the
  // job.
  std::string user_agent;
  size_t max_response_body = 1 << 20;
  absl::Duration total_timeout = absl::ZeroDuration();  // zero: the store's
  // Passed on to the HTTP client.
  absl::Duration queue_timeout = absl::ZeroDuration();
  bool expect_continue = false;
  std::function<bool()> may_write;
  HttpBodySink* sink = nullptr;
};

struct S3Response {
  int status = 0;
  HttpHeaders headers;
  std::string body;
  // From the body's <Error>, wherever there is one: also under status 200, as CopyObject and
  // CompleteMultipartUpload answer when they fail late. If the status is an error without such a body
  // (answers to HEAD have none), the code is one that S3 would use for the status ("NotFound",
  // "PreconditionFailed", ...), or "HTTP<status>".
  std::string error_code;
  std::string error_message;
  std::string request_id;  // x-amz-request-id

  // A status of 2xx and no error in the body.
  bool ok() const { return status >= 200 && status < 300 && error_code.empty(); }
};

inline constexpr std::string_view kDefaultUserAgent = "drover/0.1";
// A body above this is not hashed for the signature over TLS, which protects it already: UNSIGNED-PAYLOAD.
inline constexpr size_t kUnsignedPayloadAbove = 1 << 20;

// Adds Host, User-Agent, x-amz-date, x-amz-content-sha256, x-amz-security-token, Authorization and
// Content-Length. Belongs to the HTTP client's thread. Holds no request state: any number of Send() may be
// under way, and those must end before it is destroyed.
class S3Client {
 public:
  // `http` and `clock` must outlive it; `config` is copied.
  S3Client(const StoreConfig& config, HttpClient& http, const Clock& clock);

  // The store's answer, whatever its status; an error only if there is no whole answer (see
  // HttpClient::Send).
  boost::asio::awaitable<absl::StatusOr<S3Response>> Send(S3Request request,
                                                          const CancelToken* cancel = nullptr);

  const StoreConfig& config() const { return config_; }

 private:
  StoreConfig config_;
  HttpClient& http_;
  const Clock& clock_;
  SigV4Signer signer_;
};

// The value of x-amz-copy-source: "/bucket/key?versionId=v", encoded; no versionId if `version_id` is "".
std::string EncodeCopySource(std::string_view bucket, std::string_view key, std::string_view version_id);

// The value of x-amz-tagging: "a=1&b=2", encoded.
std::string EncodeTagging(const std::vector<std::pair<std::string, std::string>>& tags);

// `text` with what XML needs escaped (also quotes, and line ends, which parsers would change). Bytes that no
// XML document can hold (control characters) become U+FFFD.
std::string XmlEscape(std::string_view text);

// The <Tagging> document of PutObjectTagging.
std::string TaggingXml(const std::vector<std::pair<std::string, std::string>>& tags);

// The tags of such a document, as GetObjectTagging answers with; nothing if it is none, or lacks its set of
// tags or a tag's key: a set that was read wrongly must not be written back.
std::optional<std::vector<std::pair<std::string, std::string>>> ParseTagging(std::string_view xml);

// Key and upload id of each upload in an answer to ListMultipartUploads; nothing if it is none.
std::optional<std::vector<std::pair<std::string, std::string>>> ParseUploads(std::string_view xml);

// Base64 of the MD5 of `data`: a Content-MD5 header.
std::string ContentMd5(std::string_view data);

// An ETag as headers have it, without its quotes.
std::string_view WithoutQuotes(std::string_view etag);

// The text of the first element called `name` anywhere in an XML document, namespaces disregarded; "" if
// there is none or it is no XML. For small answers ("UploadId", "ETag", "LastModified").
std::string XmlText(std::string_view xml, std::string_view name);

}  // namespace drover

#endif  // DROVER_COMMON_OBJECTSTORE_S3_CLIENT_H_

#include "common/objectstore/s3_client.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "common/hash/sha256.h"
#include "common/objectstore/xml_nodes.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

// Of an error's code and message that is kept: a store may answer with anything.
constexpr size_t kMaxErrorCode = 64;
constexpr size_t kMaxErrorMessage = 1024;

struct StatusCode {
  int status;
  std::string_view code;
};
constexpr StatusCode kStatusCodes[] = {
    {301, "PermanentRedirect"},  {304, "NotModified"},          {307, "TemporaryRedirect"},
    {400, "BadRequest"},         {401, "Unauthorized"},         {403, "Forbidden"},
    {404, "NotFound"},           {405, "MethodNotAllowed"},     {408, "RequestTimeout"},
    {409, "Conflict"},           {411, "MissingContentLength"}, {412, "PreconditionFailed"},
    {413, "EntityTooLarge"},     {416, "InvalidRange"},         {429, "TooManyRequests"},
    {500, "InternalError"},      {501, "NotImplemented"},       {502, "BadGateway"},
    {503, "ServiceUnavailable"}, {504, "GatewayTimeout"},
};

std::string CodeOfStatus(int status) {
  for (const StatusCode& known : kStatusCodes) {
    if (known.status == status) return std::string(known.code);
  }
  return StrCat("HTTP", status);
}

// Cut to `limit` bytes, and not within a UTF-8 character.
std::string Cut(std::string_view text, size_t limit) {
  if (text.size() > limit) {
    while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xc0) == 0x80) --limit;
    text = text.substr(0, limit);
  }
  return std::string(text);
}

// Fills in the error, if there is one in the body.
void ReadError(std::string_view body, S3Response& response) {
  pugi::xml_document document;
  if (!document.load_buffer(body.data(), body.size(), pugi::parse_default, pugi::encoding_utf8)) return;
  const pugi::xml_node root = document.document_element();
  if (LocalName(root) != "Error") return;
  response.error_code = Cut(StripWhitespace(Child(root, "Code").child_value()), kMaxErrorCode);
  if (response.error_code.empty()) response.error_code = "UnknownError";
  response.error_message = Cut(Child(root, "Message").child_value(), kMaxErrorMessage);
  if (response.request_id.empty())
    response.request_id = Cut(Child(root, "RequestId").child_value(), kMaxErrorCode * 2);
}

S3Response ToS3(HttpResponse http, std::string_view method) {
  S3Response response;
  response.status = http.status;
  response.headers = std::move(http.headers);
  response.body = std::move(http.body);
  response.request_id = std::string(response.headers.Get("x-amz-request-id"));
  const bool success = response.status >= 200 && response.status < 300;
  // What GET brings with a 2xx is somebody's data, whatever it looks like.
  const bool may_hold_error = !success || (method != "GET" && method != "HEAD");
  if (may_hold_error && response.body.find("Error") != std::string::npos) ReadError(response.body, response);
  if (!success && response.error_code.empty()) response.error_code = CodeOfStatus(response.status);
  return response;
}

// What x-amz-content-sha256 says of the body. Long ones are protected by TLS, and those of a source are not
// known yet.
std::string PayloadHash(const HttpRequest& http) {
  if (http.source != nullptr || (http.tls && http.body.size() > kUnsignedPayloadAbove))
    return std::string(kUnsignedPayload);
  return http.body.empty() ? std::string(kEmptySha256) : Sha256Hex(http.body);
}

// A bucket's name becomes part of a host name.
bool IsHostLabel(std::string_view bucket) {
  return !bucket.empty() && std::all_of(bucket.begin(), bucket.end(), [](char c) {
    return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-' || c == '.';
  });
}

}  // namespace

S3Client::S3Client(const StoreConfig& config, HttpClient& http, const Clock& clock)
    : config_(config),
      http_(http),
      clock_(clock),
      signer_(config.credentials.access_key_id, config.credentials.secret_access_key,
              config.credentials.session_token, config.region) {}

boost::asio::awaitable<absl::StatusOr<S3Response>> S3Client::Send(S3Request request,
                                                                  const CancelToken* cancel) {
  HttpRequest http;
  http.tls = config_.origin.tls;
  http.host = config_.origin.host;
  http.port = config_.origin.port;
  http.method = std::move(request.method);
  http.headers = std::move(request.headers);
  http.body = request.borrowed_body.empty() ? std::string_view(request.body) : request.borrowed_body;
  http.source = request.body_source;
  http.expect_continue = request.expect_continue;
  http.may_write = std::move(request.may_write);
  http.max_response_body = request.max_response_body;
  http.total_timeout = request.total_timeout;
  http.queue_timeout = request.queue_timeout;
  http.sink = request.sink;

  http.target = config_.origin.path;
  if (!request.bucket.empty()) {
    if (config_.path_style) {
      http.target.push_back('/');
      AppendUriEncoded(http.target, request.bucket, /*encode_slash=*/true);
    } else if (IsHostLabel(request.bucket)) {
      http.host = StrCat(request.bucket, ".", http.host);
    } else {
      co_return Error(
          absl::StatusCode::kInvalidArgument, "HTTP_INVALID_REQUEST",
          "the bucket's name can't be part of a host name, as the store's virtual-host style needs");
    }
  }
  // "/bucket" alone, as SDKs send it; with a key, or at the root, a slash always.
  if (http.target.empty() || !request.key.empty()) http.target.push_back('/');
  AppendUriEncoded(http.target, request.key, /*encode_slash=*/false);
  const size_t path_size = http.target.size();
  const std::string query = CanonicalQuery(std::move(request.query));
  if (!query.empty()) http.target.append(1, '?').append(query);

  http.headers.Reserve(http.headers.size() + 6);
  if (request.content_md5) http.headers.Add("Content-MD5", ContentMd5(http.body));
  http.headers.Add("User-Agent",
                   request.user_agent.empty() ? kDefaultUserAgent : std::string_view(request.user_agent));
  if (!config_.credentials.anonymous) {
    const std::string host = HostHeader(http.tls, http.host, http.port);
    signer_.Sign(
        {http.method, std::string_view(http.target).substr(0, path_size), query, host, PayloadHash(http)},
        clock_.Now(), &http.headers);
  }
  const std::string method = http.method;
  auto response = co_await http_.Send(std::move(http), cancel);
  if (!response.ok()) co_return response.status();
  co_return ToS3(*std::move(response), method);
}

std::string EncodeCopySource(std::string_view bucket, std::string_view key, std::string_view version_id) {
  std::string out = "/";
  AppendUriEncoded(out, bucket, true);
  out.push_back('/');
  AppendUriEncoded(out, key, false);
  if (!version_id.empty()) {
    out.append("?versionId=");
    AppendUriEncoded(out, version_id, true);
  }
  return out;
}

std::string EncodeTagging(const std::vector<std::pair<std::string, std::string>>& tags) {
  std::string out;
  for (const auto& [key, value] : tags) {
    if (!out.empty()) out.push_back('&');
    AppendUriEncoded(out, key, true);
    out.push_back('=');
    AppendUriEncoded(out, value, true);
  }
  return out;
}

std::string XmlEscape(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 16);
  for (char c : text) {
    switch (c) {
      case '&': out.append("&amp;"); break;
      case '<': out.append("&lt;"); break;
      case '>': out.append("&gt;"); break;
      case '"': out.append("&quot;"); break;
      case '\'': out.append("&apos;"); break;
      case '\t': out.append("&#9;"); break;
      case '\n': out.append("&#10;"); break;
      case '\r': out.append("&#13;"); break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out.append("\xEF\xBF\xBD");
        } else {
          out.push_back(c);
        }
    }
  }
  return out;
}

std::string TaggingXml(const std::vector<std::pair<std::string, std::string>>& tags) {
  std::string out = "<Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet>";
  for (const auto& [key, value] : tags) {
    StrAppend(&out, "<Tag><Key>", XmlEscape(key), "</Key><Value>", XmlEscape(value), "</Value></Tag>");
  }
  out.append("</TagSet></Tagging>");
  return out;
}

std::optional<std::vector<std::pair<std::string, std::string>>> ParseTagging(std::string_view xml) {
  pugi::xml_document document;
  // Blanks are as good a value as any.
  if (!document.load_buffer(xml.data(), xml.size(), pugi::parse_default | pugi::parse_ws_pcdata_single,
                            pugi::encoding_utf8)) {
    return std::nullopt;
  }
  const pugi::xml_node root = document.document_element();
  const pugi::xml_node set = Child(root, "TagSet");
  if (LocalName(root) != "Tagging" || !set) return std::nullopt;
  std::vector<std::pair<std::string, std::string>> tags;
  for (const pugi::xml_node& tag : set.children()) {
    if (LocalName(tag) != "Tag") continue;
    const pugi::xml_node key = Child(tag, "Key");
    if (!key) return std::nullopt;
    tags.emplace_back(TextOf(key), TextOf(Child(tag, "Value")));
  }
  return tags;
}

std::optional<std::vector<std::pair<std::string, std::string>>> ParseUploads(std::string_view xml) {
  pugi::xml_document document;
  if (!document.load_buffer(xml.data(), xml.size(), pugi::parse_default, pugi::encoding_utf8)) {
    return std::nullopt;
  }
  const pugi::xml_node root = document.document_element();
  if (LocalName(root) != "ListMultipartUploadsResult") return std::nullopt;
  std::vector<std::pair<std::string, std::string>> uploads;
  for (const pugi::xml_node& upload : root.children()) {
    if (LocalName(upload) != "Upload") continue;
    uploads.emplace_back(TextOf(Child(upload, "Key")), TextOf(Child(upload, "UploadId")));
  }
  return uploads;
}

std::string ContentMd5(std::string_view data) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned size = 0;
  // Fails only where MD5 is forbidden (FIPS mode); the store then says that the header is wrong.
  if (EVP_Digest(data.data(), data.size(), digest.data(), &size, EVP_md5(), nullptr) != 1) size = 0;
  return absl::Base64Escape(absl::string_view(reinterpret_cast<const char*>(digest.data()), size));
}

std::string_view WithoutQuotes(std::string_view etag) {
  if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"') return etag.substr(1, etag.size() - 2);
  return etag;
}

std::string XmlText(std::string_view xml, std::string_view name) {
  pugi::xml_document document;
  if (!document.load_buffer(xml.data(), xml.size(), pugi::parse_default, pugi::encoding_utf8)) return "";
  const pugi::xml_node found =
      document.find_node([name](const pugi::xml_node& node) { return LocalName(node) == name; });
  return found.child_value();
}

}  // namespace drover

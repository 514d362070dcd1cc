// A token is, in URL-safe base64:
//
//   token    = version checksum query cursor
//   version  = %x01
//   checksum = 8 bytes: of SHA-256("drover page token" version query cursor)
//   query    = 8 bytes: of SHA-256(text of the query)
//   cursor   = *512OCTET, not empty
#include "services/controller/api/page_token.h"

#include <set>

#include "absl/strings/escaping.h"
#include "common/hash/sha256.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

constexpr char kVersion = 1;
constexpr size_t kHashBytes = 8;
constexpr size_t kHeaderBytes = 1 + 2 * kHashBytes;

std::string Checksum(std::string_view query_hash, std::string_view cursor) {
  return Sha256(StrCat("drover page token", std::string(1, kVersion), query_hash, cursor))
      .substr(0, kHashBytes);
}

std::string QueryHash(const PageQuery& query) { return Sha256(query.text).substr(0, kHashBytes); }

absl::Status Refuse(std::string_view reason, std::string_view description) {
  FieldErrors errors;
  errors.Add("page_token", description);
  return errors.ToStatus(absl::StatusCode::kInvalidArgument, reason);
}

}  // namespace

PageQuery JobsQuery(const std::vector<lifecycle::State>& states) {
  std::string text = "jobs";
  for (const lifecycle::State state : std::set<lifecycle::State>(states.begin(), states.end())) {
    StrAppend(&text, " ", lifecycle::StateName(state));
  }
  return {text};
}

PageQuery WorkersQuery() { return {"workers"}; }

PageQuery OutcomesQuery(const OutcomeQuery& query) {
  // The code's length goes before it, so that no code reads like another one and a prefix.
  return {
      StrCat("outcomes ", query.job_id, query.include_succeeded ? " all" : " failed",
             query.code ? StrCat(" code ", query.code->size(), " ", *query.code) : std::string(" any code"),
             " prefix ", query.key_prefix)};
}

std::string EncodePageToken(const PageQuery& query, std::string_view cursor) {
  const std::string query_hash = QueryHash(query);
  return absl::WebSafeBase64Escape(
      StrCat(std::string(1, kVersion), Checksum(query_hash, cursor), query_hash, cursor));
}

absl::StatusOr<std::string> DecodePageToken(const PageQuery& query, std::string_view token) {
  if (token.empty()) return std::string();
  std::string bytes;
  if (token.size() > kMaxPageTokenBytes || !absl::WebSafeBase64Unescape(ToAbsl(token), &bytes) ||
      absl::WebSafeBase64Escape(bytes) != token ||  // padding, stray bits: not what was given out
      bytes.size() <= kHeaderBytes || bytes[0] != kVersion) {
    return Refuse("PAGE_TOKEN_INVALID",
                  "is not a token that this release gave; list again from the first page");
  }
  const std::string_view all = bytes;
  const std::string_view query_hash = all.substr(1 + kHashBytes, kHashBytes);
  const std::string_view cursor = all.substr(kHeaderBytes);
  if (all.substr(1, kHashBytes) != Checksum(query_hash, cursor)) {
    return Refuse("PAGE_TOKEN_INVALID",
                  "is damaged: pass next_page_token on as it came, or list from the first page");
  }
  if (query_hash != QueryHash(query)) {
    return Refuse("PAGE_TOKEN_QUERY",
                  "belongs to another query: a page token is good for the filter that it was given for only");
  }
  return std::string(cursor);
}

}  // namespace drover

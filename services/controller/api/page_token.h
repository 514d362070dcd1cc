// Page tokens: where a listing goes on, bound to the query it belongs to.
//
//   const PageQuery query = JobsQuery(request.states());
//   DROVER_ASSIGN_OR_RETURN(const std::string after, DecodePageToken(query, request.page_token()));
//   ...
//   response->set_next_page_token(EncodePageToken(query, last_id));
//
// Opaque to clients. Any controller reads what another one made: there is no secret in them, and none is
// needed, since a token only says where to go on; what may be listed is decided anew at each call. A checksum
// catches tokens that were cut or mistyped. The page size is no part of the query: it may change from page to
// page.
#ifndef DROVER_SERVICES_CONTROLLER_API_PAGE_TOKEN_H_
#define DROVER_SERVICES_CONTROLLER_API_PAGE_TOKEN_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "services/controller/lifecycle/lifecycle.h"
#include "services/controller/outcome/outcome_reader.h"

namespace drover {

inline constexpr size_t kMaxPageTokenBytes = 1024;

// What is listed: two queries are the same if their texts are.
struct PageQuery {
  std::string text;
};

// ListJobs with these states, in any order and however often.
PageQuery JobsQuery(const std::vector<lifecycle::State>& states);
// ListWorkers.
PageQuery WorkersQuery();
// ListTaskOutcomes of that job and these filters.
PageQuery OutcomesQuery(const OutcomeQuery& query);

// The token of the page after `cursor` (an id, at most 512 bytes): URL-safe characters, at most
// kMaxPageTokenBytes.
std::string EncodePageToken(const PageQuery& query, std::string_view cursor);

// The cursor of a token; empty for an empty token (the first page). INVALID_ARGUMENT on field page_token:
// PAGE_TOKEN_INVALID for what is no token of this release, PAGE_TOKEN_QUERY for one of another query.
absl::StatusOr<std::string> DecodePageToken(const PageQuery& query, std::string_view token);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_API_PAGE_TOKEN_H_

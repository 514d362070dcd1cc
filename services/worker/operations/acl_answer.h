// The access control list of an object, as GetObjectAcl answers with.
#ifndef DROVER_SERVICES_WORKER_OPERATIONS_ACL_ANSWER_H_
#define DROVER_SERVICES_WORKER_OPERATIONS_ACL_ANSWER_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace drover {

struct AclEntry {
  std::string grantee;     // a canonical id, or a group's URI
  std::string permission;  // READ, FULL_CONTROL, …
  bool group = false;
};

// The grants of an <AccessControlPolicy>; nullopt if the document is none. What it says is a store's, and may
// be anything. Thread-safe.
std::optional<std::vector<AclEntry>> ParseAcl(std::string_view xml);

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_OPERATIONS_ACL_ANSWER_H_

#include "services/worker/operations/acl_answer.h"

#include "common/objectstore/xml_nodes.h"

namespace drover {

std::optional<std::vector<AclEntry>> ParseAcl(std::string_view xml) {
  pugi::xml_document document;
  if (!document.load_buffer(xml.data(), xml.size(), pugi::parse_default, pugi::encoding_utf8)) {
    return std::nullopt;
  }
  const pugi::xml_node root = document.document_element();
  const pugi::xml_node list = Child(root, "AccessControlList");
  if (LocalName(root) != "AccessControlPolicy" || !list) return std::nullopt;
  std::vector<AclEntry> entries;
  for (const pugi::xml_node& grant : list.children()) {
    if (LocalName(grant) != "Grant") continue;
    const pugi::xml_node grantee = Child(grant, "Grantee");
    const std::string uri = TextOf(Child(grantee, "URI"));
    entries.push_back(
        {uri.empty() ? TextOf(Child(grantee, "ID")) : uri, TextOf(Child(grant, "Permission")), !uri.empty()});
  }
  return entries;
}

}  // namespace drover

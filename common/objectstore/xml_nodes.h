// Looking around in S3's XML answers by local names: stores put prefixes and namespaces as they like.
#ifndef DROVER_COMMON_OBJECTSTORE_XML_NODES_H_
#define DROVER_COMMON_OBJECTSTORE_XML_NODES_H_

#include <cstring>
#include <string>
#include <string_view>

#include <pugixml.hpp>

namespace drover {

// The element's name without its namespace prefix; as long-lived as the document.
inline std::string_view LocalName(const pugi::xml_node& node) {
  const char* name = node.name();
  const char* colon = std::strchr(name, ':');
  return colon == nullptr ? name : colon + 1;
}

// The first child element of that local name; a null node if there is none.
inline pugi::xml_node Child(const pugi::xml_node& parent, std::string_view name) {
  return parent.find_child([name](const pugi::xml_node& node) { return LocalName(node) == name; });
}

// All text right beneath the element, whatever comments and CDATA sections cut it up; "" for a null node.
inline std::string TextOf(const pugi::xml_node& node) {
  std::string text;
  for (const pugi::xml_node& piece : node.children()) {
    if (piece.type() == pugi::node_pcdata || piece.type() == pugi::node_cdata) text.append(piece.value());
  }
  return text;
}

}  // namespace drover

#endif  // DROVER_COMMON_OBJECTSTORE_XML_NODES_H_

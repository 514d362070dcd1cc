// The documents, as S3's API reference has them (namespaces disregarded when reading):
//
//   <Delete><Object><Key>k</Key>[<VersionId>v</VersionId>]</Object>…</Delete>
//   <DeleteResult>
//     <Deleted><Key>k</Key>[<VersionId>v</VersionId>][<DeleteMarker>true</DeleteMarker>…]</Deleted>
//     <Error><Key>k</Key>[<VersionId>v</VersionId>]<Code>c</Code><Message>m</Message></Error>…
//   </DeleteResult>
//   <ListVersionsResult><IsTruncated>b</IsTruncated>[<EncodingType>url</EncodingType>]
//     <Version>|<DeleteMarker><Key>k</Key><VersionId>v</VersionId><IsLatest>b</IsLatest>…
#include "services/worker/operations/store_answers.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "common/codec/key_encoding.h"
#include "common/codec/utf8.h"
#include "common/objectstore/s3_client.h"
#include "common/objectstore/xml_nodes.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

// Keys may be blank.
constexpr unsigned kParse = pugi::parse_default | pugi::parse_ws_pcdata_single;

// The document's root element if it is called `name`, else a null node.
pugi::xml_node Load(std::string_view xml, std::string_view name, pugi::xml_document& document) {
  if (!document.load_buffer(xml.data(), xml.size(), kParse, pugi::encoding_utf8)) return {};
  const pugi::xml_node root = document.document_element();
  return LocalName(root) == name ? root : pugi::xml_node();
}

std::string ChildText(const pugi::xml_node& parent, std::string_view name) {
  return TextOf(Child(parent, name));
}

bool ChildIsTrue(const pugi::xml_node& parent, std::string_view name) {
  return StripWhitespace(ChildText(parent, name)) == "true";
}

bool AllOf(std::string_view text, int (*test)(int)) {
  return std::all_of(text.begin(), text.end(), [test](unsigned char c) { return test(c) != 0; });
}

void ReadError(const pugi::xml_node& error, DeleteResultEntry& entry) {
  entry.code = StripWhitespace(ChildText(error, "Code"));
  entry.message = ChildText(error, "Message");
  int status = 0;
  if (entry.code.size() == 3 && AllOf(entry.code, std::isdigit) && ParseInteger(entry.code, &status)) {
    entry.status = status;
    if (!entry.message.empty() && AllOf(entry.message, std::isalnum)) {
      entry.code = std::exchange(entry.message, {});
    } else {
      entry.code = StrCat("HTTP", status);
    }
  }
  if (entry.code.empty()) entry.code = "UnknownError";
}

// A key of a list of versions, which encodes blanks as plus signs.
bool DecodeListedKey(std::string& key) {
  std::replace(key.begin(), key.end(), '+', ' ');
  std::string decoded;
  size_t bad_offset = 0;
  if (!UrlDecode(key, decoded, bad_offset)) return false;
  key = std::move(decoded);
  return true;
}

}  // namespace

bool FitsXml(std::string_view text) {
  if (!IsValidUtf8(text)) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x20 && c != '\t' && c != '\n' && c != '\r') return false;
    // U+FFFE and U+FFFF are EF BF BE and EF BF BF.
    if (c == 0xef && static_cast<unsigned char>(text[i + 1]) == 0xbf &&
        static_cast<unsigned char>(text[i + 2]) >= 0xbe) {
      return false;
    }
  }
  return true;
}

std::string DeleteXmlObject(const ObjectName& object) {
  std::string out = StrCat("<Object><Key>", XmlEscape(object.key), "</Key>");
  if (!object.version_id.empty())
    StrAppend(&out, "<VersionId>", XmlEscape(object.version_id), "</VersionId>");
  out.append("</Object>");
  return out;
}

std::optional<std::vector<DeleteResultEntry>> ParseDeleteResult(std::string_view xml) {
  pugi::xml_document document;
  const pugi::xml_node root = Load(xml, "DeleteResult", document);
  if (!root) return std::nullopt;
  std::vector<DeleteResultEntry> entries;
  for (const pugi::xml_node& node : root.children()) {
    const bool deleted = LocalName(node) == "Deleted";
    if (!deleted && LocalName(node) != "Error") continue;
    const pugi::xml_node key = Child(node, "Key");
    if (!key) return std::nullopt;
    DeleteResultEntry& entry = entries.emplace_back();
    entry.key = TextOf(key);
    entry.version_id = ChildText(node, "VersionId");
    entry.deleted = deleted;
    if (deleted) {
      entry.delete_marker = ChildIsTrue(node, "DeleteMarker");
    } else {
      ReadError(node, entry);
    }
  }
  return entries;
}

std::optional<VersionPage> ParseVersions(std::string_view xml) {
  pugi::xml_document document;
  const pugi::xml_node root = Load(xml, "ListVersionsResult", document);
  if (!root) return std::nullopt;
  VersionPage page;
  page.truncated = ChildIsTrue(root, "IsTruncated");
  const bool encoded = StripWhitespace(ChildText(root, "EncodingType")) == "url";
  for (const pugi::xml_node& node : root.children()) {
    const bool marker = LocalName(node) == "DeleteMarker";
    if (!marker && LocalName(node) != "Version") continue;
    ListedVersion& version = page.versions.emplace_back();
    version.key = ChildText(node, "Key");
    version.version_id = ChildText(node, "VersionId");
    version.is_latest = ChildIsTrue(node, "IsLatest");
    version.is_delete_marker = marker;
    if (version.key.empty() || (encoded && !DecodeListedKey(version.key))) return std::nullopt;
  }
  return page;
}

}  // namespace drover

// The XML documents of S3 that operations write and read: groups of deletes, lists of versions.
// Pure functions. What is read comes from stores and is hostile: a document that is cut off, is of another
// kind or lacks what it must have is none at all, never half of one.
#ifndef DROVER_SERVICES_WORKER_OPERATIONS_STORE_ANSWERS_H_
#define DROVER_SERVICES_WORKER_OPERATIONS_STORE_ANSWERS_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace drover {

// Whether an XML 1.0 document can hold `text`: valid UTF-8 without U+0000 to U+001F (but for tab, line feed
// and carriage return), U+FFFE and U+FFFF. S3's keys may be anything; one that does not fit can't be named in
// a document.
bool FitsXml(std::string_view text);

// An object to delete in a group.
struct ObjectName {
  std::string_view key;
  std::string_view version_id;  // empty: the current version

  friend bool operator==(const ObjectName&, const ObjectName&) = default;
};

// The opening of a <Delete> document, an object of it, and its end. The answer is to name every object (the
// document does not ask for quiet). Keys and version ids must fit XML.
inline constexpr std::string_view kDeleteXmlBegin =
    "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">";
inline constexpr std::string_view kDeleteXmlEnd = "</Delete>";
std::string DeleteXmlObject(const ObjectName& object);

// What a DeleteObjects answer says about one object.
struct DeleteResultEntry {
  std::string key;
  std::string version_id;      // as it was asked for; empty where none was (or where the store leaves it out)
  bool deleted = false;        // else it failed, for `code` and `message`
  bool delete_marker = false;  // a delete marker was made, or a named one deleted
  std::string code;
  std::string message;
  int status = 0;  // of HTTP, where the store gives one instead of S3's code; else 0
};

// All that a <DeleteResult> says, in its order; nullopt if the document is none. radosgw gives errors as a
// status in <Code> and the code in <Message>: they come out in their places.
std::optional<std::vector<DeleteResultEntry>> ParseDeleteResult(std::string_view xml);

// A version or delete marker in a list of versions.
struct ListedVersion {
  std::string key;  // as the store knows it
  std::string version_id;
  bool is_latest = false;
  bool is_delete_marker = false;
};
struct VersionPage {
  std::vector<ListedVersion> versions;  // in the order of the answer: by key, of each the newest first
  bool truncated = false;               // there are more
};

// A <ListVersionsResult>; keys are decoded where it says that they are encoded. nullopt if it is none.
std::optional<VersionPage> ParseVersions(std::string_view xml);

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_OPERATIONS_STORE_ANSWERS_H_

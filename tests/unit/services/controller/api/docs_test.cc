// docs/api.md is held against the code.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "services/controller/api/supported_fields.h"

namespace drover {
namespace {

std::string ReadFile(const std::filesystem::path& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

const std::filesystem::path kSource = DROVER_SOURCE_DIR;

// What the first group of `pattern` matches in `text`, each once.
std::set<std::string> FindAll(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  std::set<std::string> found;
  for (std::sregex_iterator it(text.begin(), text.end(), regex), end; it != end; ++it) found.insert((*it)[1]);
  return found;
}

TEST(ApiDocs, NameExactlyTheSupportedFields) {
  const std::string page = ReadFile(kSource / "docs" / "api.md");
  const size_t begin = page.find("<!-- supported fields: begin -->");
  const size_t end = page.find("<!-- supported fields: end -->");
  ASSERT_NE(begin, page.npos);
  ASSERT_NE(end, page.npos);
  std::set<std::string> listed;
  for (const SupportedField& field : SupportedCreateJobFields()) listed.emplace(field.path);
  EXPECT_EQ(FindAll(page.substr(begin, end - begin), "\\n\\| `([a-z0-9_.]+)`"), listed);
}

TEST(ApiDocs, NameEveryReasonThatTheApiGives) {
  const std::string page = ReadFile(kSource / "docs" / "api.md");
  const std::set<std::string> documented = FindAll(page, "\\n\\| `([A-Z_]+)` \\|");
  std::set<std::string> given = {"INVALID_FIELD", "JOB_STATE",
                                 "REQUEST_ID_REUSED"};  // from lifecycle and storage
  for (const auto& entry : std::filesystem::directory_iterator(kSource / "services" / "controller" / "api")) {
    if (entry.path().extension() != ".cc") continue;
    const std::string code = ReadFile(entry.path());
    given.merge(FindAll(code, "StatusCode::k[A-Za-z]+,\\s*\"([A-Z_]+)\""));
    given.merge(FindAll(code, "Refuse\\(\\s*\"([A-Z_]+)\""));
    given.merge(FindAll(code, "\\{\"([A-Z_]+)\", \\{"));
  }
  // Internal errors go out as INTERNAL.
  given.erase("STORED_REQUEST");
  given.erase("STORED_HELLO");
  EXPECT_EQ(documented, given);
}

}  // namespace
}  // namespace drover

#include "cli/operation_words.h"

#include <iterator>
#include <utility>

#include "common/strings/strings.h"

namespace drover::cli {
namespace {

constexpr std::pair<v1::Operation::KindCase, std::string_view> kWords[] = {
    {v1::Operation::kNoOp, "noop"},
    {v1::Operation::kPutObjectTagging, "put-tags"},
    {v1::Operation::kChangeObjectTagging, "change-tags"},
    {v1::Operation::kDeleteObjectTagging, "delete-tags"},
    {v1::Operation::kCopyObject, "copy"},
    {v1::Operation::kDeleteObject, "delete"},
    {v1::Operation::kUndeleteObject, "undelete"},
    {v1::Operation::kHeadObject, "head"},
};

}  // namespace

std::string_view OperationWord(v1::Operation::KindCase kind) {
  for (const auto& [known, word] : kWords) {
    if (known == kind) return word;
  }
  return "";
}

std::string OperationWords() {
  std::string words;
  for (size_t i = 0; i < std::size(kWords); ++i) {
    const std::string_view between = i == 0 ? "" : i + 1 == std::size(kWords) ? " or " : ", ";
    StrAppend(&words, between, kWords[i].second);
  }
  return words;
}

}  // namespace drover::cli

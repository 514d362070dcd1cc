#include "cli/job_file.h"

#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/str_join.h"
#include "cli/output.h"
#include "common/strings/strings.h"

namespace drover::cli {
namespace {

std::string PlaceText(std::string_view name, TextPlace place) {
  return place.line == 0 ? std::string(name) : StrCat(name, ":", place.line, ":", place.column);
}

// Takes request_id, under either of its names, out of the document.
void TakeRequestId(YamlNode& node, JobDocument& document, std::vector<Problem>& problems) {
  std::vector<YamlField> others;
  const YamlNode* first = nullptr;
  for (auto& [key, value] : node.fields) {
    if (key.kind != YamlNode::Kind::kScalar || (key.text != kRequestIdKey && key.text != "requestId")) {
      others.push_back({std::move(key), std::move(value)});
    } else if (first != nullptr) {
      problems.push_back(
          {key.place, kRequestIdKey, StrCat("is there twice; first in line ", first->place.line)});
    } else if (value.kind != YamlNode::Kind::kScalar || value.text.empty() ||
               value.text.size() > kMaxRequestIdLength) {
      first = &key;
      problems.push_back(
          {key.place, kRequestIdKey, StrCat("must be 1 to ", kMaxRequestIdLength, " characters")});
    } else {
      first = &key;
      document.request_id = value.text;
    }
  }
  node.fields = std::move(others);
}

absl::Status ToStatus(std::string_view name, std::vector<Problem> problems) {
  std::sort(problems.begin(), problems.end(), [](const Problem& a, const Problem& b) {
    return std::tie(a.place.line, a.place.column, a.path) < std::tie(b.place.line, b.place.column, b.path);
  });
  std::vector<std::string> lines;
  for (const Problem& problem : problems) {
    if (lines.size() == kMaxProblemsShown) {
      lines.push_back(StrCat("… and ", problems.size() - kMaxProblemsShown, " more"));
      break;
    }
    lines.push_back(Printable(StrCat(PlaceText(name, problem.place), ": ", problem.path,
                                     problem.path.empty() ? "" : ": ", problem.what)));
  }
  return absl::InvalidArgumentError(absl::StrJoin(lines, "\n"));
}

}  // namespace

absl::StatusOr<std::vector<JobDocument>> ReadJobFile(std::string_view name, std::string_view text) {
  auto nodes = ParseYaml(name, text);
  if (!nodes.ok()) return nodes.status();
  if (nodes->empty()) return absl::InvalidArgumentError(StrCat(name, ": holds no job"));
  std::vector<JobDocument> documents;
  std::vector<Problem> problems;
  std::map<std::string, int> request_ids;  // with the line of the document
  for (YamlNode& node : *nodes) {
    JobDocument& document = documents.emplace_back();
    document.place = node.place;
    TakeRequestId(node, document, problems);
    ReadMessage(node, document.job, problems, document.places);
    if (document.request_id.empty()) continue;
    const auto [at, fresh] = request_ids.emplace(document.request_id, node.place.line);
    if (!fresh) {
      problems.push_back({node.place, kRequestIdKey,
                          StrCat("is that of the job in line ", at->second, "; each job needs its own")});
    }
  }
  if (!problems.empty()) return ToStatus(name, std::move(problems));
  return documents;
}

std::string PlaceOf(std::string_view name, const JobDocument& document, std::string_view field) {
  ConsumePrefix(&field, "job.");
  while (true) {
    if (const auto at = document.places.find(field); at != document.places.end())
      return PlaceText(name, at->second);
    const size_t end = field.find_last_of(".[");
    if (end == std::string_view::npos) return PlaceText(name, document.place);
    field = field.substr(0, end);
  }
}

v1::Job InputOf(const v1::Job& job) {
  v1::Job input = job;
  const auto* descriptor = v1::Job::descriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    if (IsOutputOnly(*descriptor->field(i)))
      v1::Job::GetReflection()->ClearField(&input, descriptor->field(i));
  }
  return input;
}

std::string WriteJobFile(const v1::Job& job) {
  return StrCat("# From job ", Printable(job.job_id()),
                ". drover job create -f FILE makes another one like it.\n", ToYaml(InputOf(job), false));
}

}  // namespace drover::cli

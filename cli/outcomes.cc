#include "cli/outcomes.h"

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/strings/str_format.h"
#include "cli/output.h"
#include "common/codec/key_encoding.h"
#include "common/strings/strings.h"

namespace drover::cli {
namespace {

std::string ObjectOf(const v1::ManifestTask& task) {
  const std::string version = task.version_id().empty() ? "" : StrCat(" version ", task.version_id());
  return Printable(StrCat(task.bucket(), "/", task.key(), version));
}

std::string StatusText(int32_t http_status) { return http_status == 0 ? "-" : StrCat(http_status); }

// Without blanks at its end.
std::string Line(std::string_view position, std::string_view result, std::string_view http,
                 std::string_view tries, std::string_view code, std::string_view object,
                 std::string_view message) {
  std::string line = absl::StrFormat("%12s  %-9s  %4s  %5s  %-24s  %s", ToAbsl(position), ToAbsl(result),
                                     ToAbsl(http), ToAbsl(tries), ToAbsl(code), ToAbsl(object));
  if (!message.empty()) StrAppend(&line, "  ", message);
  return line + "\n";
}

}  // namespace

std::string OutcomeHeader() {
  return Line("POSITION", "RESULT", "HTTP", "TRIES", "CODE", "OBJECT", "MESSAGE");
}

std::string OutcomeLine(const v1::RecordedOutcome& outcome) {
  return Line(StrCat(outcome.task().position()), outcome.succeeded() ? "succeeded" : "failed",
              StatusText(outcome.http_status()), StrCat(outcome.attempts()),
              outcome.error_code().empty() ? "-" : Printable(outcome.error_code()), ObjectOf(outcome.task()),
              Printable(outcome.message()));
}

std::string ManifestLine(const v1::ManifestTask& task) {
  std::string line = StrCat(Printable(task.bucket()), ",");
  AppendUrlEncoded(task.key(), line);
  if (!task.version_id().empty()) StrAppend(&line, ",", Printable(task.version_id()));
  return line + "\n";
}

std::string SummaryTable(const v1::FailureSummary& summary) {
  int64_t all = 0;
  for (const v1::FailureGroup& group : summary.groups()) all += group.failed_tasks();
  std::vector<std::vector<std::string>> rows;
  for (const v1::FailureGroup& group : summary.groups()) {
    const double share =
        100.0 * static_cast<double>(group.failed_tasks()) / static_cast<double>(std::max<int64_t>(all, 1));
    const std::string example = group.examples().empty() ? "-" : ObjectOf(group.examples(0));
    rows.push_back({FormatCount(group.failed_tasks()), absl::StrFormat("%.1f%%", share),
                    group.others() ? "" : StatusText(group.http_status()),
                    group.error_code().empty() ? "-" : Printable(group.error_code()), example});
    for (int i = 1; i < group.examples_size(); ++i)
      rows.push_back({"", "", "", "", ObjectOf(group.examples(i))});
  }
  return FormatTable({{"FAILED", true}, {"SHARE", true}, {"HTTP", true}, {"CODE"}, {"EXAMPLES"}}, rows);
}

}  // namespace drover::cli

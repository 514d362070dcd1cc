#include "cli/progress.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "cli/exit_code.h"
#include "cli/output.h"
#include "common/strings/strings.h"

namespace drover::cli {
namespace {

constexpr size_t kLongestBar = 40;
constexpr size_t kShortestBar = 10;
// Carriage return, and erase to the end of the line (ECMA-48).
constexpr std::string_view kEraseLine = "\r\x1b[K";

int64_t Executed(const v1::Job& job) {
  return job.progress().succeeded_tasks() + job.progress().failed_tasks();
}

// Why the job stands still.
std::string Reason(const v1::Job& job) {
  const v1::StateReason& reason = job.state_reason();
  std::string out;
  if (!reason.code().empty()) {
    out = StrCat(" (", reason.code(), reason.message().empty() ? "" : ": ", reason.message(), ")");
  }
  if (!job.waiting_for().empty()) StrAppend(&out, " (waits for ", job.waiting_for(), ")");
  return Printable(out);
}

// At most `columns` bytes, not cutting a character in two; a bar's line is ASCII but for a reason's words.
std::string Cut(std::string text, size_t columns) {
  if (columns == 0 || text.size() <= columns) return text;
  while (columns > 0 && (static_cast<unsigned char>(text[columns]) & 0xc0) == 0x80) --columns;
  text.resize(columns);
  return text;
}

std::string RateText(double per_second) {
  return per_second < 10 ? absl::StrFormat("%.1f/s", per_second)
                         : StrCat(FormatCount(std::llround(per_second)), "/s");
}

}  // namespace

void RateMeter::Add(absl::Duration now, int64_t executed) {
  samples_.emplace_back(now, executed);
  // One sample older than the window stays, so that the window is always covered.
  while (samples_.size() > 2 && now - samples_[1].first >= kRateWindow) samples_.pop_front();
}

double RateMeter::per_second() const {
  if (samples_.size() < 2) return 0;
  const double seconds = absl::ToDoubleSeconds(samples_.back().first - samples_.front().first);
  const auto tasks = static_cast<double>(samples_.back().second - samples_.front().second);
  return seconds <= 0 || tasks < 0 ? 0 : tasks / seconds;
}

std::string Bar(double filled, size_t width) {
  filled = std::clamp(filled, 0.0, 1.0);
  const auto done = static_cast<size_t>(filled * static_cast<double>(width));
  std::string bar = StrCat("[", std::string(done, '='), done < width ? ">" : "");
  bar.resize(width + 1, ' ');
  return bar + "]";
}

std::string ProgressLine(const v1::Job& job, double per_second, size_t columns) {
  const v1::JobProgress& progress = job.progress();
  const std::string state = StateName(job.state());
  if (job.state() == v1::NEW || job.state() == v1::PREPARING) {
    return Cut(StrCat(state, "  ", FormatCount(progress.total_tasks()), " tasks found"), columns);
  }
  const int64_t executed = Executed(job);
  const double share = progress.total_tasks() == 0
                           ? 1
                           : static_cast<double>(executed) / static_cast<double>(progress.total_tasks());
  std::string figures = absl::StrFormat("%5.1f%%  %s/%s", 100 * share, FormatCount(executed),
                                        FormatCount(progress.total_tasks()));
  const bool running = job.state() == v1::ACTIVE || job.state() == v1::PAUSING;
  if (running) StrAppend(&figures, "  ", RateText(per_second));
  StrAppend(&figures, "  ", FormatCount(progress.failed_tasks()), " failed");
  if (job.state() == v1::ACTIVE && per_second > 0) {
    const double left = static_cast<double>(progress.total_tasks() - executed) / per_second;
    StrAppend(&figures, "  ", FormatSpan(absl::Seconds(left)), " left");
  }
  if (job.report_status().state() == v1::ReportStatus::WRITING) {
    StrAppend(&figures, "  report ", job.report_status().files_written(), "/", job.report_status().files(),
              " files");
  }
  // While all goes well the state says enough; a reason matters when the job stands still.
  if (!running || !job.waiting_for().empty()) StrAppend(&figures, Reason(job));
  const size_t without_bar = state.size() + figures.size() + 5;
  if (columns < without_bar + kShortestBar) return Cut(StrCat(state, "  ", figures), columns);
  return StrCat(state, " ", Bar(share, std::min(kLongestBar, columns - without_bar)), " ", figures);
}

void ProgressView::Update(const v1::Job& job) {
  const absl::Duration now = clock_.Elapsed();
  rate_.Add(now, Executed(job));
  if (IsTerminal(job.state())) return;
  if (columns_.has_value()) {
    // The last column stays free: some terminals wrap when it is written.
    write_(StrCat(kEraseLine,
                  ProgressLine(job, rate_.per_second(), *columns_ - std::min<size_t>(*columns_, 1))));
    drawn_ = true;
    return;
  }
  const std::string line = ProgressLine(job, rate_.per_second(), 0);
  const std::string kind = StrCat(static_cast<int>(job.state()), Reason(job));
  if (kind == last_kind_ && (line == last_line_ || now - last_time_ < kPlainInterval)) return;
  last_kind_ = kind;
  last_line_ = line;
  last_time_ = now;
  write_(line + "\n");
}

void ProgressView::Note(std::string_view text) {
  Finish();
  write_(StrCat(Printable(text), "\n"));
}

void ProgressView::Finish() {
  if (drawn_) write_(kEraseLine);
  drawn_ = false;
}

}  // namespace drover::cli

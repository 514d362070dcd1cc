#include "services/controller/duties/duty_table.h"

#include <algorithm>
#include <cstdlib>

namespace drover {
namespace {

constexpr absl::Duration kFirstBackoff = absl::Milliseconds(200);
constexpr int kMaxDoublings = 16;  // far over any maximum, and no overflow

}  // namespace

std::string_view DutyKindName(DutyKind kind) {
  switch (kind) {
    case DutyKind::kPrepare: return "prepare";
    case DutyKind::kFinish: return "finish";
    case DutyKind::kReportFile: return "report_file";
  }
  return "unknown";
}

int DutyLimits::Of(DutyKind kind) const {
  switch (kind) {
    case DutyKind::kPrepare: return prepare;
    case DutyKind::kFinish: return finish;
    case DutyKind::kReportFile: return report_file;
  }
  return 0;
}

DutyTable::DutyTable(const DutyLimits& limits, const std::vector<DutyKind>& kinds)
    : threads_(std::max(limits.threads, static_cast<int>(kinds.size()))) {
  for (DutyKind kind : kinds) kinds_.push_back({kind, std::max(1, limits.Of(kind)), 0});
}

DutyTable::Kind& DutyTable::Of(DutyKind kind) {
  const auto found =
      std::find_if(kinds_.begin(), kinds_.end(), [&](const Kind& row) { return row.kind == kind; });
  if (found == kinds_.end()) std::abort();  // a duty of a kind that was never asked for
  return *found;
}

int DutyTable::RoomFor(const Kind& kind) const {
  int reserved = 0;
  for (const Kind& other : kinds_) {
    if (other.kind != kind.kind && other.running == 0) ++reserved;
  }
  return std::min(kind.limit - kind.running, threads_ - running_total_ - reserved);
}

std::optional<DutyAsk> DutyTable::NextAsk() const {
  DutyAsk ask;
  for (const Kind& kind : kinds_) {
    const int room = RoomFor(kind);
    if (room <= 0) continue;
    ask.limit = ask.kinds.empty() ? room : std::min(ask.limit, room);
    ask.kinds.push_back(kind.kind);
  }
  if (ask.kinds.empty()) return std::nullopt;
  return ask;
}

void DutyTable::Started(DutyKind kind) {
  ++Of(kind).running;
  ++running_total_;
}

void DutyTable::Ended(DutyKind kind) {
  --Of(kind).running;
  --running_total_;
}

absl::Duration DutyBackoff(int tries, absl::Duration max, double unit) {
  const int doublings = std::clamp(tries, 0, kMaxDoublings);
  const absl::Duration whole = std::min(max, kFirstBackoff * static_cast<double>(1 << doublings));
  return whole * (0.5 + unit / 2);
}

}  // namespace drover

// Which duties this controller holds and which it may take: the DutyRunner's decisions, without threads, time
// or database.
#ifndef DROVER_SERVICES_CONTROLLER_DUTIES_DUTY_TABLE_H_
#define DROVER_SERVICES_CONTROLLER_DUTIES_DUTY_TABLE_H_

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "services/controller/storage/storage.h"

namespace drover {

inline constexpr std::array<DutyKind, 3> kDutyKinds = {DutyKind::kPrepare, DutyKind::kFinish,
                                                       DutyKind::kReportFile};

// "prepare", "finish" or "report_file".
std::string_view DutyKindName(DutyKind kind);

struct DutyLimits {
  int threads = 8;  // duties at once; at least one for each kind that has a handler
  // Of each kind at once; they bound memory (docs/configuration.md), and keep one kind from crowding out
  // another.
  int prepare = 3;
  int finish = 4;
  int report_file = 2;

  int Of(DutyKind kind) const;
};

// What to ask the database for.
struct DutyAsk {
  std::vector<DutyKind> kinds;
  int limit = 0;  // of any mixture of the kinds: no more than any of them has room for
};

// Counts running duties by kind. Not thread-safe.
class DutyTable {
 public:
  // Of the kinds given, in any order; the others are never asked for.
  DutyTable(const DutyLimits& limits, const std::vector<DutyKind>& kinds);

  // The next ask; nothing while there is no room. A thread stays free for each kind that has none running:
  // however long preparations take, a report gets on, and the other way round.
  std::optional<DutyAsk> NextAsk() const;
  void Started(DutyKind kind);
  void Ended(DutyKind kind);
  int running() const { return running_total_; }

 private:
  struct Kind {
    DutyKind kind;
    int limit = 0;
    int running = 0;
  };
  Kind& Of(DutyKind kind);
  int RoomFor(const Kind& kind) const;

  int threads_;
  int running_total_ = 0;
  std::vector<Kind> kinds_;
};

// How long a duty rests after its `tries` + 1-th passing error in a row: 200 ms doubled with each, at most
// `max`, of which `unit` (in [0, 1)) picks a point in the upper half, so that controllers don't come back in
// step.
absl::Duration DutyBackoff(int tries, absl::Duration max, double unit);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_DUTIES_DUTY_TABLE_H_

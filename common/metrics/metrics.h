// Metrics in Prometheus' format, declared in one table per program and served on /metrics.
//
//   const std::vector<MetricDef>& WorkerMetrics() {
//     static const auto& table = *new std::vector<MetricDef>{
//         {"drover_worker_tasks_total", MetricType::kCounter, "Tasks that ended, by result.",
//          {{"operation", {"noop", "copy"}}, {"result", {"succeeded", "failed"}}}},
//         {"drover_store_request_seconds", MetricType::kHistogram, "Time of a store request.",
//          {{"store", MetricLabel::kConfigured}}, kSecondsBuckets}};
//     return table;
//   }
//
//   DROVER_ASSIGN_OR_RETURN(auto metrics, Metrics::Create(WorkerMetrics(), {{"store", {"main",
//   "archive"}}})); Counter copied = metrics->counter("drover_worker_tasks_total", {"copy", "succeeded"}); //
//   once, kept copied.Add();                                                                            //
//   cheap: one atomic add
//
// No label is unbounded, by construction: a label's values are listed in the table or, for names that the
// operator gives (stores), once at the start; any other value is counted under "other".
//
// docs/metrics.md is MetricsMarkdown of the tables; a test holds it and DifferencesFromScrape against a live
// scrape.
#ifndef DROVER_COMMON_METRICS_METRICS_H_
#define DROVER_COMMON_METRICS_METRICS_H_

#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

// Declared here so that users of this header don't include prometheus-cpp.
namespace prometheus {
class Counter;
class Gauge;
class Histogram;
}  // namespace prometheus

namespace drover {

enum class MetricType { kCounter, kGauge, kHistogram };

// The value that stands for all values of a label that are not in its list.
inline constexpr std::string_view kOtherLabelValue = "other";

// The most series (combinations of label values) that one metric may have; Create refuses a table above it.
inline constexpr size_t kMaxSeriesPerMetric = 4096;

struct MetricLabel {
  enum Configured { kConfigured };

  MetricLabel(std::string label_name, std::vector<std::string> label_values)
      : name(std::move(label_name)), values(std::move(label_values)) {}
  // The values are given to Metrics::Create under the label's name.
  MetricLabel(std::string label_name, Configured) : name(std::move(label_name)), configured(true) {}

  std::string name;
  std::vector<std::string> values;
  bool configured = false;
};

struct MetricDef {
  std::string
      name;  // [a-z_][a-z0-9_]*; a counter's ends in _total; the unit is in the name (_seconds, _bytes)
  MetricType type;
  std::string help;  // one sentence, what is counted
  std::vector<MetricLabel> labels = {};
  std::vector<double> buckets = {};  // upper bounds of a histogram, ascending; required for one
};

// 1 ms to 60 s, for latencies of requests and transactions.
extern const std::vector<double> kSecondsBuckets;
// 1 to 1,000,000 in steps of about 3, for sizes of groups.
extern const std::vector<double> kCountBuckets;

// Handles: small values to be copied freely, obtained once and kept; valid as long as the Metrics they come
// from. A default-constructed one does nothing, so that code under test needs no registry. Thread-safe.
class Counter {
 public:
  Counter() = default;
  explicit Counter(prometheus::Counter* counter) : counter_(counter) {}
  // Adds `amount`, which is not negative.
  void Add(double amount = 1) const;

 private:
  prometheus::Counter* counter_ = nullptr;
};

class Gauge {
 public:
  Gauge() = default;
  explicit Gauge(prometheus::Gauge* gauge) : gauge_(gauge) {}
  void Set(double value) const;
  void Add(double amount) const;

 private:
  prometheus::Gauge* gauge_ = nullptr;
};

class Histogram {
 public:
  Histogram() = default;
  explicit Histogram(prometheus::Histogram* histogram) : histogram_(histogram) {}
  void Observe(double value) const;

 private:
  prometheus::Histogram* histogram_ = nullptr;
};

// The metrics of one process. Thread-safe.
class Metrics {
 public:
  // Checks the table (names, buckets, number of series); errors are INVALID_ARGUMENT. `configured` gives the
  // values of the labels declared as MetricLabel::kConfigured. Beside the table's metrics there are always
  // those of ProcessMetrics().
  static absl::StatusOr<std::unique_ptr<Metrics>> Create(
      const std::vector<MetricDef>& table,
      const std::map<std::string, std::vector<std::string>>& configured = {});
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // The series of the metric `name` with these values of its labels, in the table's order. A name, type or
  // number of labels that is not in the table is a mistake in the program, and aborts.
  Counter counter(std::string_view name, std::initializer_list<std::string_view> labels = {}) const;
  Gauge gauge(std::string_view name, std::initializer_list<std::string_view> labels = {}) const;
  Histogram histogram(std::string_view name, std::initializer_list<std::string_view> labels = {}) const;

  // The exposition that a scrape gets.
  std::string Text() const;

 private:
  friend class MetricsServer;
  struct Impl;
  explicit Metrics(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Serves GET /metrics until destroyed, with two threads of its own. Stopping takes up to 2 s (its server's
// poll).
class MetricsServer {
 public:
  // `address` is host:port, port 0 for any; `metrics` outlives the server. UNAVAILABLE if it can't listen
  // there.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(const std::string& address,
                                                              const Metrics& metrics);
  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  // The port that it listens on.
  int port() const;

 private:
  struct Impl;
  explicit MetricsServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// What every program exports about itself: CPU seconds, resident and peak memory, open files, threads, start
// time.
const std::vector<MetricDef>& ProcessMetrics();

// The table as Markdown, a row for each metric: name, type, labels and their values, meaning.
std::string MetricsMarkdown(const std::vector<MetricDef>& table);

// Compares a scrape with tables: each metric that is missing from either side, or whose type, help or label
// names differ. Empty if they agree.
std::vector<std::string> DifferencesFromScrape(const std::vector<MetricDef>& table, std::string_view scrape);

}  // namespace drover

#endif  // DROVER_COMMON_METRICS_METRICS_H_

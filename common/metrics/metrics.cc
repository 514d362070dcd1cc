#include "common/metrics/metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <set>
#include <sstream>
#include <utility>

#include "absl/strings/str_join.h"
#include "common/strings/strings.h"
#include "prometheus/counter.h"
#include "prometheus/exposer.h"
#include "prometheus/family.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
#include "prometheus/text_serializer.h"

namespace drover {

const std::vector<double> kSecondsBuckets = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                             0.5,   1,      2.5,   5,    10,    30,   60};
const std::vector<double> kCountBuckets = {1,    3,     10,    30,     100,    300,    1000,
                                           3000, 10000, 30000, 100000, 300000, 1000000};

namespace {

// Metrics with at most this many series show all of them from the start, so that a rate has a zero to start
// from.
constexpr size_t kSeriesShownFromStart = 128;

// prometheus-cpp's server counts its own scrapes under this prefix; no table declares them.
constexpr std::string_view kExposerPrefix = "exposer_";

constexpr char kLowercase[] = "abcdefghijklmnopqrstuvwxyz0123456789_";

bool IsName(std::string_view name) {
  return !name.empty() && name.find_first_not_of(kLowercase) == std::string_view::npos &&
         !(name[0] >= '0' && name[0] <= '9');
}

std::string_view TypeName(MetricType type) {
  switch (type) {
    case MetricType::kCounter: return "counter";
    case MetricType::kGauge: return "gauge";
    case MetricType::kHistogram: return "histogram";
  }
  return "";
}

[[noreturn]] void Mistake(std::string_view name, const char* what) {
  std::fprintf(stderr, "metric %.*s: %s\n", static_cast<int>(name.size()), name.data(), what);
  std::abort();
}

// What the kernel says of this process, gathered at each scrape.
class ProcessCollector final : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override {
    const std::map<std::string, double> values = Read();
    std::vector<prometheus::MetricFamily> families;
    for (const MetricDef& def : ProcessMetrics()) {
      prometheus::MetricFamily family;
      family.name = def.name;
      family.help = def.help;
      family.type =
          def.type == MetricType::kCounter ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge;
      prometheus::ClientMetric metric;
      const auto it = values.find(def.name);
      const double value = it == values.end() ? std::nan("") : it->second;
      metric.counter.value = value;
      metric.gauge.value = value;
      family.metric.push_back(metric);
      families.push_back(family);
    }
    return families;
  }

 private:
  static std::map<std::string, double> Read() {
    std::map<std::string, double> values;
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& tv) { return static_cast<double>(tv.tv_sec) + tv.tv_usec / 1e6; };
    values["process_cpu_seconds_total"] = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
      const double value = std::atof(line.substr(std::min(line.size(), line.find(':') + 1)).c_str());
      if (StartsWith(line, "VmRSS:")) values["process_resident_memory_bytes"] = value * 1024;
      if (StartsWith(line, "VmHWM:")) values["process_peak_resident_memory_bytes"] = value * 1024;
      if (StartsWith(line, "Threads:")) values["process_threads"] = value;
    }
    if (DIR* dir = opendir("/proc/self/fd"); dir != nullptr) {
      int entries = 0;
      while (readdir(dir) != nullptr) ++entries;
      closedir(dir);
      values["process_open_fds"] = entries - 3;  // ".", ".." and the directory itself
    }
    if (const double start = StartTime(); start > 0) values["process_start_time_seconds"] = start;
    return values;
  }

  // Field 22 of /proc/self/stat, in clock ticks since boot; the name before it may hold blanks and
  // parentheses.
  static double StartTime() {
    std::ifstream stat("/proc/self/stat");
    std::string line;
    std::getline(stat, line);
    std::istringstream fields(line.substr(std::min(line.size(), line.rfind(')') + 1)));
    std::string field;
    for (int i = 3; i <= 22; ++i) fields >> field;
    std::ifstream boot("/proc/stat");
    for (std::string row; std::getline(boot, row);) {
      if (StartsWith(row, "btime ")) {
        return std::atof(row.c_str() + 6) +
               std::atof(field.c_str()) / static_cast<double>(sysconf(_SC_CLK_TCK));
      }
    }
    return 0;
  }
};

struct Family {
  MetricDef def;  // with the configured labels' values filled in
  prometheus::Family<prometheus::Counter>* counters = nullptr;
  prometheus::Family<prometheus::Gauge>* gauges = nullptr;
  prometheus::Family<prometheus::Histogram>* histograms = nullptr;

  prometheus::Labels LabelsFor(std::vector<std::string_view> values) const {
    prometheus::Labels labels;
    for (size_t i = 0; i < values.size(); ++i) {
      const MetricLabel& label = def.labels[i];
      const bool known = std::find(label.values.begin(), label.values.end(), values[i]) != label.values.end();
      labels[label.name] = std::string(known ? values[i] : kOtherLabelValue);
    }
    return labels;
  }

  void Touch(const prometheus::Labels& labels) const {
    if (counters != nullptr) counters->Add(labels);
    if (gauges != nullptr) gauges->Add(labels);
    if (histograms != nullptr) histograms->Add(labels, def.buckets);
  }
};

absl::Status Invalid(const MetricDef& def, std::string_view what) {
  return absl::InvalidArgumentError(StrCat("metric ", def.name, ": ", what));
}

absl::Status Check(const MetricDef& def) {
  if (!IsName(def.name)) return Invalid(def, "a name is made of a-z 0-9 _");
  if ((def.type == MetricType::kCounter) != EndsWith(def.name, "_total")) {
    return Invalid(def, "counters, and only they, end in _total");
  }
  if (def.help.empty() || def.help.find_first_of("\n\\|") != std::string::npos) {
    return Invalid(def, "needs a help text of one line, without \\ and |");
  }
  if ((def.type == MetricType::kHistogram) == def.buckets.empty()) {
    return Invalid(def, "histograms, and only they, have buckets");
  }
  if (std::adjacent_find(def.buckets.begin(), def.buckets.end(), std::greater_equal<>()) !=
      def.buckets.end()) {
    return Invalid(def, "buckets must ascend");
  }
  std::set<std::string> names;
  for (const MetricLabel& label : def.labels) {
    if (!IsName(label.name) || label.name == "le" || !names.insert(label.name).second) {
      return Invalid(def, StrCat("bad label name ", label.name));
    }
  }
  return absl::OkStatus();
}

// Calls `visit` for every combination of the labels' values.
template <typename Visit>
void ForEachCombination(const MetricDef& def, size_t limit, const Visit& visit) {
  std::vector<size_t> at(def.labels.size(), 0);
  for (size_t n = 0; n < limit; ++n) {
    std::vector<std::string_view> values;
    for (size_t i = 0; i < at.size(); ++i) values.push_back(def.labels[i].values[at[i]]);
    visit(values);
    size_t i = 0;
    while (i < at.size() && ++at[i] == def.labels[i].values.size()) at[i++] = 0;
    if (i == at.size()) return;
  }
}

std::string Escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

void Counter::Add(double amount) const {
  if (counter_ != nullptr) counter_->Increment(amount);
}

void Gauge::Set(double value) const {
  if (gauge_ != nullptr) gauge_->Set(value);
}

void Gauge::Add(double amount) const {
  if (gauge_ != nullptr) gauge_->Increment(amount);
}

void Histogram::Observe(double value) const {
  if (histogram_ != nullptr) histogram_->Observe(value);
}

struct Metrics::Impl {
  std::shared_ptr<prometheus::Registry> registry =
      std::make_shared<prometheus::Registry>(prometheus::Registry::InsertBehavior::Throw);
  std::shared_ptr<ProcessCollector> process = std::make_shared<ProcessCollector>();
  std::map<std::string, Family, std::less<>> families;

  const Family& Find(std::string_view name, MetricType type, size_t labels) const {
    const auto it = families.find(name);
    if (it == families.end()) Mistake(name, "not in the table");
    if (it->second.def.type != type) Mistake(name, "asked for as another type");
    if (it->second.def.labels.size() != labels) Mistake(name, "asked for with another number of labels");
    return it->second;
  }
};

Metrics::Metrics(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Metrics::~Metrics() = default;

absl::StatusOr<std::unique_ptr<Metrics>> Metrics::Create(
    const std::vector<MetricDef>& table, const std::map<std::string, std::vector<std::string>>& configured) {
  auto impl = std::make_unique<Impl>();
  for (const MetricDef& declared : table) {
    if (absl::Status status = Check(declared); !status.ok()) return status;
    Family family{.def = declared};
    MetricDef& def = family.def;
    size_t series = 1;
    size_t with_other = 1;
    for (MetricLabel& label : def.labels) {
      if (label.configured) {
        const auto it = configured.find(label.name);
        if (it != configured.end()) label.values = it->second;
      }
      if (label.values.empty() && label.configured) label.values.emplace_back(kOtherLabelValue);
      if (label.values.empty()) return Invalid(def, StrCat("label ", label.name, " has no values"));
      // Bounded factors, so that the product can't overflow.
      if (label.values.size() > kMaxSeriesPerMetric) return Invalid(def, "has too many label values");
      series = std::min(series * label.values.size(), kMaxSeriesPerMetric + 1);
      with_other = std::min(with_other * (label.values.size() + 1), kMaxSeriesPerMetric + 1);
    }
    if (with_other > kMaxSeriesPerMetric)
      return Invalid(def, StrCat("has more than ", kMaxSeriesPerMetric, " series"));
    try {
      switch (def.type) {
        case MetricType::kCounter:
          family.counters =
              &prometheus::BuildCounter().Name(def.name).Help(def.help).Register(*impl->registry);
          break;
        case MetricType::kGauge:
          family.gauges = &prometheus::BuildGauge().Name(def.name).Help(def.help).Register(*impl->registry);
          break;
        case MetricType::kHistogram:
          family.histograms =
              &prometheus::BuildHistogram().Name(def.name).Help(def.help).Register(*impl->registry);
          break;
      }
    } catch (const std::exception& error) {
      return Invalid(def, error.what());
    }
    // Every metric shows itself from the start, if only by one of its series.
    ForEachCombination(
        def, series <= kSeriesShownFromStart ? series : 1,
        [&](const std::vector<std::string_view>& values) { family.Touch(family.LabelsFor(values)); });
    impl->families.emplace(def.name, std::move(family));
  }
  return std::unique_ptr<Metrics>(new Metrics(std::move(impl)));
}

Counter Metrics::counter(std::string_view name, std::initializer_list<std::string_view> labels) const {
  const Family& family = impl_->Find(name, MetricType::kCounter, labels.size());
  return Counter(&family.counters->Add(family.LabelsFor(labels)));
}

Gauge Metrics::gauge(std::string_view name, std::initializer_list<std::string_view> labels) const {
  const Family& family = impl_->Find(name, MetricType::kGauge, labels.size());
  return Gauge(&family.gauges->Add(family.LabelsFor(labels)));
}

Histogram Metrics::histogram(std::string_view name, std::initializer_list<std::string_view> labels) const {
  const Family& family = impl_->Find(name, MetricType::kHistogram, labels.size());
  return Histogram(&family.histograms->Add(family.LabelsFor(labels), family.def.buckets));
}

std::string Metrics::Text() const {
  std::vector<prometheus::MetricFamily> families = impl_->registry->Collect();
  for (prometheus::MetricFamily& family : impl_->process->Collect()) families.push_back(std::move(family));
  return prometheus::TextSerializer().prometheus::Serializer::Serialize(families);
}

struct MetricsServer::Impl {
  std::unique_ptr<prometheus::Exposer> exposer;
  int port = 0;
};

MetricsServer::MetricsServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
MetricsServer::~MetricsServer() = default;

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(const std::string& address,
                                                                    const Metrics& metrics) {
  auto impl = std::make_unique<Impl>();
  try {
    impl->exposer = std::make_unique<prometheus::Exposer>(address, 2);
    impl->exposer->RegisterCollectable(metrics.impl_->registry);
    impl->exposer->RegisterCollectable(metrics.impl_->process);
    const std::vector<int> ports = impl->exposer->GetListeningPorts();
    if (ports.empty()) return absl::UnavailableError(StrCat("cannot serve metrics on ", address));
    impl->port = ports[0];
  } catch (const std::exception& error) {
    return absl::UnavailableError(StrCat("cannot serve metrics on ", address, ": ", error.what()));
  }
  return std::unique_ptr<MetricsServer>(new MetricsServer(std::move(impl)));
}

int MetricsServer::port() const { return impl_->port; }

const std::vector<MetricDef>& ProcessMetrics() {
  static const auto& table = *new std::vector<MetricDef>{
      {"process_cpu_seconds_total", MetricType::kCounter,
       "CPU time that the process has used, user and system."},
      {"process_resident_memory_bytes", MetricType::kGauge, "Memory of the process that is resident now."},
      {"process_peak_resident_memory_bytes", MetricType::kGauge,
       "The most memory of the process that was resident."},
      {"process_open_fds", MetricType::kGauge, "Open file descriptors."},
      {"process_threads", MetricType::kGauge, "Threads."},
      {"process_start_time_seconds", MetricType::kGauge, "When the process started, in seconds since 1970."},
  };
  return table;
}

std::string MetricsMarkdown(const std::vector<MetricDef>& table) {
  std::string out = "| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n";
  for (const MetricDef& def : table) {
    std::string labels;
    for (const MetricLabel& label : def.labels) {
      StrAppend(&labels, labels.empty() ? "" : "; ", "`", label.name,
                "`: ", label.configured ? "as configured" : absl::StrJoin(label.values, ", "));
    }
    StrAppend(&out, "| `", def.name, "` | ", TypeName(def.type), " | ", Escape(labels), " | ",
              Escape(def.help), " |\n");
  }
  return out;
}

std::vector<std::string> DifferencesFromScrape(const std::vector<MetricDef>& table, std::string_view scrape) {
  struct Seen {
    std::string type;
    std::string help;
    std::set<std::string> labels;
    bool sample = false;
  };
  std::map<std::string, Seen, std::less<>> seen;
  for (const std::string_view line : Split(scrape, '\n')) {
    std::string_view rest = line;
    if (ConsumePrefix(&rest, "# HELP ")) {
      seen[std::string(rest.substr(0, rest.find(' ')))].help =
          rest.substr(std::min(rest.size(), rest.find(' ') + 1));
    } else if (ConsumePrefix(&rest, "# TYPE ")) {
      seen[std::string(rest.substr(0, rest.find(' ')))].type =
          rest.substr(std::min(rest.size(), rest.find(' ') + 1));
    } else if (!line.empty()) {
      std::string_view name = line.substr(0, line.find_first_of("{ "));
      for (const std::string_view suffix : {"_bucket", "_sum", "_count"}) {
        const std::string_view base = name.substr(0, name.size() - std::min(name.size(), suffix.size()));
        const auto it = seen.find(base);
        if (EndsWith(name, suffix) && it != seen.end() && it->second.type == "histogram") name = base;
      }
      Seen& metric = seen[std::string(name)];
      metric.sample = true;
      // Label names: each word before `="`. Values are from fixed lists, but may be anything of the
      // operator's.
      for (size_t at = line.find('{');
           at != std::string_view::npos && at + 1 < line.size() && line[at] != '}';) {
        const size_t equals = line.find("=\"", at);
        if (equals == std::string_view::npos) break;
        if (const std::string_view label = line.substr(at + 1, equals - at - 1); label != "le") {
          metric.labels.emplace(label);
        }
        at = equals + 2;
        while (at < line.size() && line[at] != '"') at += line[at] == '\\' ? 2 : 1;
        ++at;
      }
    }
  }

  std::vector<std::string> differences;
  for (const MetricDef& def : table) {
    const auto it = seen.find(def.name);
    if (it == seen.end() || !it->second.sample) {
      differences.push_back(StrCat(def.name, ": not in the scrape"));
      continue;
    }
    if (it->second.type != TypeName(def.type))
      differences.push_back(StrCat(def.name, ": is a ", it->second.type));
    if (it->second.help != def.help)
      differences.push_back(StrCat(def.name, ": help is \"", it->second.help, "\""));
    std::set<std::string> labels;
    for (const MetricLabel& label : def.labels) labels.insert(label.name);
    if (it->second.labels != labels) {
      differences.push_back(StrCat(def.name, ": labels are ", absl::StrJoin(it->second.labels, ",")));
    }
    seen.erase(it);
  }
  for (const auto& [name, metric] : seen) {
    if (!StartsWith(name, kExposerPrefix)) differences.push_back(StrCat(name, ": not in the table"));
  }
  return differences;
}

}  // namespace drover

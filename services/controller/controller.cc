#include "services/controller/controller.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/service_type.h>
#include <unistd.h>

#include <map>
#include <optional>
#include <utility>

#include "common/log/log.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "common/sync/named_thread.h"
#include "services/controller/api/api.h"
#include "services/controller/dispatch/dispatcher.h"
#include "services/controller/dispatch/fleet.h"
#include "services/controller/dispatch/job_info.h"
#include "services/controller/duties/duty_runner.h"
#include "services/controller/janitor/janitor.h"
#include "services/controller/manifest/prepare_handler.h"
#include "services/controller/metrics/controller_metrics.h"
#include "services/controller/outcome/gatherer.h"
#include "services/controller/report/finish_handler.h"
#include "services/controller/report/report_file_handler.h"
#include "services/controller/storage/postgres/postgres_storage.h"
#include "services/controller/stores/store_provider.h"
#include "services/controller/worker_service/worker_service.h"

namespace drover {
namespace {

// Once the workers have gone: for what was received to be recorded, for duties to be handed back, for calls
// to end. kStopTail leaves some seconds beside them, for whatever waits for the database.
constexpr absl::Duration kRecordBound = absl::Seconds(5);
constexpr absl::Duration kDutiesBound = absl::Seconds(5);
constexpr absl::Duration kServerBound = absl::Seconds(1);

std::string DefaultName(const std::string& listen) {
  char host[256] = "controller";
  gethostname(host, sizeof(host) - 1);
  return StrCat(host, "/", listen);
}

std::string_view DutyName(DutyKind kind) {
  switch (kind) {
    case DutyKind::kPrepare: return "prepare";
    case DutyKind::kFinish: return "finish";
    case DutyKind::kReportFile: return "report_file";
  }
  return "unknown";
}

std::string_view ResultName(DutyOutcome::What what) {
  switch (what) {
    case DutyOutcome::What::kDone: return "done";
    case DutyOutcome::What::kAgain: return "again";
    case DutyOutcome::What::kFailed: return "failed";
    case DutyOutcome::What::kEnded: return "ended";
  }
  return "unknown";
}

}  // namespace

// Members in the order of dependence: destroyed in reverse.
struct Controller::Impl {
  Impl(const ControllerConfig& config, const Stores& stores, const Metrics& metrics, Clock& clock,
       Random& random)
      : config(config), metrics(metrics), clock(clock), random(random), stores(stores) {}

  void JobChanged(const JobId& job_id) {
    if (api) api->NotifyChanged(job_id);
    if (dispatcher) dispatcher->Wake();
    if (duties) duties->Wake();
  }

  void CountRecorded(const JobId& job_id, const SegmentWrite& segment) {
    const auto info = jobs->Get(job_id);
    const std::string_view operation = info.ok() ? std::string_view((*info)->operation) : kOtherLabelValue;
    metrics.counter("drover_tasks_recorded_total", {operation, "succeeded"}).Add(segment.succeeded);
    metrics.counter("drover_tasks_recorded_total", {operation, "failed"}).Add(segment.failed);
  }

  void BuildDispatch(const std::string& name);
  void BuildDuties(const std::string& name);
  absl::Status Serve();
  void SampleMetrics();

  const ControllerConfig config;
  const Metrics& metrics;
  Clock& clock;
  Random& random;
  const Stores stores;
  std::unique_ptr<Storage> storage;
  std::unique_ptr<JobCache> jobs;
  std::unique_ptr<StoreProvider> store_provider;
  std::unique_ptr<Gatherer> gatherer;
  std::unique_ptr<Fleet> fleet;
  std::unique_ptr<Dispatcher> dispatcher;
  std::unique_ptr<Janitor> janitor;
  std::unique_ptr<DutyHandler> prepare;
  std::unique_ptr<DutyHandler> report_file;
  std::unique_ptr<DutyHandler> finish;
  std::unique_ptr<DutyRunner> duties;
  std::unique_ptr<Api> api;
  std::unique_ptr<grpc::Service> worker_service;
  std::unique_ptr<grpc::Server> server;
  int port = 0;

  Mutex mu;
  CondVar changed;
  bool stopping ABSL_GUARDED_BY(mu) = false;
  std::optional<NamedThread> sampler;
};

void Controller::Impl::BuildDispatch(const std::string& name) {
  jobs = std::make_unique<JobCache>(*storage);

  GathererMetrics gatherer_metrics{
      .group_segments = metrics.histogram("drover_record_group_segments"),
      .commit_seconds = metrics.histogram("drover_record_commit_seconds"),
      .retries = metrics.counter("drover_record_retries_total"),
      .rejected = metrics.counter("drover_record_rejected_total"),
  };
  Gatherer::Hooks hooks;
  hooks.policy = [this](const JobId& job_id) -> absl::StatusOr<lifecycle::FailurePolicy> {
    DROVER_ASSIGN_OR_RETURN(const auto info, jobs->Get(job_id));
    return info->failure_policy;
  };
  hooks.recorded = [this](const JobId& job_id, const SegmentWrite& segment, SegmentResult result, bool over) {
    fleet->OnRecorded(job_id, segment, result, over);
    if (result == SegmentResult::kRecorded) CountRecorded(job_id, segment);
    if (result == SegmentResult::kAlready && !over) {
      // Recorded by another controller: what was recorded under this number need not be what this worker sent
      // here.
      const auto recorded = storage->ReadRecorded(job_id, segment.lease, TaskSet::kMaxTasks);
      if (recorded.ok()) fleet->SetRecorded(segment.lease.lease_id, *recorded);
    }
  };
  hooks.rejected = [this](const JobId&, const SegmentWrite& segment, const absl::Status&) {
    dispatcher->LoseLease(segment.lease.lease_id);
  };
  hooks.committed = [this](const JobId& job_id, const RecordResult& result) {
    if (result.change) {
      LogInfo("job.changed", {{"job", job_id},
                              {"state", lifecycle::StateName(result.change->to)},
                              {"reason", result.change->reason_code}});
    }
    if (result.change || result.gave_back) {
      JobChanged(job_id);
    } else {
      api->NotifyChanged(job_id);
    }
  };
  gatherer = std::make_unique<Gatherer>(GathererOptions{.threads = config.record_threads}, *storage, clock,
                                        random, gatherer_metrics, std::move(hooks));

  DispatcherOptions options;
  options.controller = name;
  options.session = {config.session_ttl, config.heartbeat};
  options.look_interval = config.look_interval;
  options.interrupt_grace = config.interrupt_grace;
  fleet = std::make_unique<Fleet>(
      options.limits, clock, random,
      [this](const JobId& job_id, SegmentWrite segment) { gatherer->Submit(job_id, std::move(segment)); });
  dispatcher = std::make_unique<Dispatcher>(
      options, *storage, *fleet, *jobs, clock, random,
      DispatcherMetrics{.batches_claimed = metrics.counter("drover_batches_claimed_total"),
                        .claim_seconds = metrics.histogram("drover_claim_seconds"),
                        .attaches = metrics.counter("drover_attaches_total"),
                        .leases_returned = metrics.counter("drover_leases_returned_total", {"dispatch"})},
      [this](const JobId& job_id) { api->NotifyChanged(job_id); });

  JanitorMetrics janitor_metrics;
  janitor_metrics.sessions_ended = metrics.counter("drover_sessions_ended_total");
  janitor_metrics.leases_returned = metrics.counter("drover_leases_returned_total", {"janitor"});
  janitor_metrics.oldest_transaction_seconds = metrics.gauge("drover_oldest_transaction_seconds");
  for (int i = 1; i <= lifecycle::kStateCount; ++i) {
    const lifecycle::State state = *lifecycle::StateFromNumber(i);
    janitor_metrics.jobs[state] = metrics.gauge("drover_jobs", {lifecycle::StateName(state)});
  }
  JanitorOptions janitor_options;
  janitor_options.session_ttl = config.session_ttl;
  janitor_options.preempted_after = config.preempted_after;
  janitor = std::make_unique<Janitor>(
      janitor_options, *storage, clock, std::move(janitor_metrics),
      [this](const JobId& job_id) { JobChanged(job_id); }, [this] { dispatcher->Wake(); });
}

void Controller::Impl::BuildDuties(const std::string& name) {
  store_provider = std::make_unique<StoreProvider>(
      stores,
      [this](std::string_view store, std::string_view method, int status, absl::Duration took, bool retry) {
        CountStoreRequest(metrics, store, method, status, took, retry);
      },
      clock);
  const auto changed = [this](const JobId& job_id) { JobChanged(job_id); };
  prepare = MakePrepareHandler({.unavailable_limit = config.manifest_timeout}, *storage, *store_provider,
                               clock, changed);
  report_file = MakeReportFileHandler({}, *storage, *store_provider, changed);
  FinishOptions finish_options;
  finish_options.report_timeout = config.report_timeout;
  finish = MakeFinishHandler(finish_options, *storage, *store_provider, clock, changed);

  DutyRunnerOptions options;
  options.owner = StrCat(name, "/", NewUuid7(clock, random));
  options.limits.threads = config.duty_threads;
  options.interrupt = [this] { store_provider->Shutdown(); };
  options.on_run = [this](DutyKind kind, DutyOutcome::What what, absl::Duration) {
    metrics.counter("drover_duties_total", {DutyName(kind), ResultName(what)}).Add();
  };
  duties = std::make_unique<DutyRunner>(std::move(options), *storage, clock, random);
  duties->Register(DutyKind::kPrepare, prepare.get());
  duties->Register(DutyKind::kReportFile, report_file.get());
  duties->Register(DutyKind::kFinish, finish.get());
}

absl::Status Controller::Impl::Serve() {
  ApiHooks hooks;
  hooks.job_changed = [this](const JobId& job_id) { JobChanged(job_id); };
  hooks.job_created = [this] { duties->Wake(); };
  api = std::make_unique<Api>(ApiOptions{
      .storage = *storage,
      .stores = stores,
      .clock = clock,
      .random = random,
      .hooks = std::move(hooks),
      .call_threads = config.call_threads,
      .head = [this](const StoreConfig& config, const ObjectRef& ref) -> absl::StatusOr<ObjectInfo> {
        DROVER_ASSIGN_OR_RETURN(ObjectStore * store, store_provider->Get(config.name));
        return store->Head(ref);
      }});
  worker_service = MakeWorkerService(*fleet, *dispatcher, config.max_streams);
  grpc::ServerBuilder builder;
  api->Register(builder);
  builder.RegisterService(worker_service.get());
  // Workers ping every few seconds to find a broken stream; refusing that would cut them off.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddListeningPort(config.listen, grpc::InsecureServerCredentials(), &port);
  server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    return Error(
        absl::StatusCode::kUnavailable, "LISTEN",
        StrCat("can't listen on ", config.listen, ": is the address in use, or not of this machine?"));
  }
  return absl::OkStatus();
}

void Controller::Impl::SampleMetrics() {
  const Gauge streams = metrics.gauge("drover_streams");
  const Gauge leases = metrics.gauge("drover_leases");
  const Gauge unacked = metrics.gauge("drover_unacked_bytes");
  const Gauge oldest = metrics.gauge("drover_oldest_lease_seconds");
  const Gauge pending = metrics.gauge("drover_segments_pending");
  const Gauge mismatched = metrics.gauge("drover_mismatched_stores");
  std::map<std::string, std::string> fingerprints;
  for (const StoreConfig& store : stores.list()) fingerprints[store.name] = store.Fingerprint();
  while (true) {
    const Fleet::Counts counts = fleet->counts();
    streams.Set(static_cast<double>(counts.streams));
    leases.Set(static_cast<double>(counts.leases));
    unacked.Set(static_cast<double>(counts.unacked_bytes));
    oldest.Set(absl::ToDoubleSeconds(counts.oldest_lease));
    pending.Set(static_cast<double>(gatherer->pending()));
    mismatched.Set(static_cast<double>(fleet->MismatchedStores(fingerprints)));
    MutexLock lock(&mu);
    if (!stopping) changed.WaitWithTimeout(&mu, absl::Seconds(1));
    if (stopping) return;
  }
}

Controller::Controller(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Controller::~Controller() = default;
int Controller::port() const { return impl_->port; }

absl::StatusOr<std::unique_ptr<Controller>> Controller::Start(const ControllerConfig& config,
                                                              const std::string& version,
                                                              const Stores& stores, const Metrics& metrics,
                                                              Clock& clock, Random& random) {
  auto impl = std::make_unique<Impl>(config, stores, metrics, clock, random);
  PostgresOptions postgres;
  postgres.url = config.database;
  postgres.pool_size = config.database_connections;
  DROVER_ASSIGN_OR_RETURN(auto storage, OpenPostgres(postgres, clock, random));
  if (const auto warnings = storage->DurabilityWarnings(); warnings.ok()) {
    for (const std::string& warning : *warnings) LogWarning("database.not_durable", {{"warning", warning}});
  }
  impl->storage = std::move(storage);
  const std::string name = config.name.empty() ? DefaultName(config.listen) : config.name;
  impl->BuildDispatch(name);
  impl->BuildDuties(name);
  DROVER_RETURN_IF_ERROR(impl->Serve());
  impl->gatherer->Start();
  impl->dispatcher->Start();
  impl->janitor->Start();
  impl->duties->Start();
  impl->api->Start(*impl->server);
  impl->sampler.emplace("metrics-sampler", [raw = impl.get()] { raw->SampleMetrics(); });
  LogInfo("controller.started", {{"name", name}, {"version", version}, {"port", impl->port}});
  return std::unique_ptr<Controller>(new Controller(std::move(impl)));
}

bool Controller::Stop() {
  LogInfo("controller.draining");
  // The parts' bounds don't hold where a thread waits for a database that does not answer: this one does.
  // What is left undone then is what a crash would leave.
  Mutex mu;
  CondVar changed;
  bool stopped = false;
  const absl::Duration end = impl_->clock.Elapsed() + impl_->config.drain_timeout + kStopTail;
  const NamedThread watchdog("stop-watchdog", [&] {
    MutexLock lock(&mu);
    for (absl::Duration now = impl_->clock.Elapsed(); !stopped && now < end; now = impl_->clock.Elapsed()) {
      changed.WaitWithTimeout(&mu, end - now);
    }
    if (stopped) return;
    LogError("controller.stop_overdue", {{"after", impl_->config.drain_timeout + kStopTail}});
    _exit(1);
  });
  const bool in_time = StopParts();
  LogInfo("controller.stopped", {{"in_time", in_time}});
  MutexLock lock(&mu);
  stopped = true;
  changed.NotifyAll();
  return in_time;
}

bool Controller::StopParts() {
  // Nobody is to be sent here any more, while those who are here are still served.
  impl_->api->StopServing();
  impl_->metrics.gauge("drover_draining").Set(1);
  // Workers first: they take their leases elsewhere while outcomes still get recorded here.
  impl_->dispatcher->Drain(impl_->config.drain_timeout);
  impl_->api->Shutdown();
  impl_->gatherer->Shutdown(kRecordBound);
  const bool ended = impl_->duties->Shutdown(kDutiesBound);
  impl_->server->Shutdown(std::chrono::system_clock::now() + absl::ToChronoSeconds(kServerBound));
  impl_->dispatcher->Shutdown();
  impl_->janitor->Shutdown();
  {
    MutexLock lock(&impl_->mu);
    impl_->stopping = true;
    impl_->changed.NotifyAll();
  }
  impl_->sampler.reset();  // joins it
  return ended;
}

}  // namespace drover

#include "cli/commands.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/match.h"
#include "cli/client.h"
#include "cli/create_request.h"
#include "cli/outcomes.h"
#include "cli/operation_words.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "common/clock/clock.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover::cli {
namespace {

constexpr char kDefaultServer[] = "127.0.0.1:7600";
constexpr int64_t kDefaultLimit = 100;
// A terminal that doesn't say its width.
constexpr size_t kDefaultColumns = 80;
constexpr absl::Duration kLongestTimeout = absl::Hours(24);
constexpr int64_t kMaxJobFileBytes = 4 << 20;

constexpr char kExitCodes[] =
    "Exit codes: 0 done (a job watched: complete, no task failed), 1 error, 2 usage,\n"
    "3 complete with failed tasks, 4 failed or cancelled, 5 no server available.";

constexpr char kExamples[] =
    "Examples:\n"
    "  drover job create --operation put-tags --store main --tag project=atlas \\\n"
    "      --manifest main/manifests/atlas.csv --manifest-etag 0cc175b9c0f1b6a831c399e269772661 \\\n"
    "      --report main/reports/atlas --priority 10 --watch\n"
    "  drover job list --status Active,Paused\n"
    "  drover job watch 0194f0c2-7d3e-7a51-9b1c-3f2a4c5d6e7f\n"
    "  drover worker list -o json\n";

constexpr char kCreateExamples[] =
    "Examples:\n"
    "  Rehearse, touching no object:\n"
    "    drover job create --operation noop --manifest local/lists/keys.csv --watch\n"
    "  Tag, with a report of the failed tasks, waiting for a confirmation first:\n"
    "    drover job create --operation put-tags --store main --tag team=blue --tag year=2026 \\\n"
    "        --manifest main/manifests/keys.csv --manifest-etag 0cc175b9c0f1b6a831c399e269772661 \\\n"
    "        --report main/reports/blue --report-scope failed --confirm-required\n"
    "  Copy to another bucket under a prefix, and stop when more than 1 % of 10,000 have failed:\n"
    "    drover job create --operation copy --store main --target-bucket archive --target-prefix 2026/ \\\n"
    "        --manifest main/manifests/keys.csv --manifest-etag … --fields Bucket,Key,VersionId \\\n"
    "        --failure-fraction 0.01 --failure-minimum 10000\n"
    "  In a script:\n"
    "    id=$(drover job create … --request-id nightly-2026-02-03 -o id) && drover job watch \"$id\"\n";

constexpr char kOutcomeExamples[] =
    "Examples:\n"
    "  What went wrong, by error code:\n"
    "    drover job summary 0194f0c2-7d3e-7a51-9b1c-3f2a4c5d6e7f\n"
    "  The first 20 tasks that were denied, beneath a prefix:\n"
    "    drover job outcomes 0194f0c2-7d3e-7a51-9b1c-3f2a4c5d6e7f --code AccessDenied --prefix 2024/ --limit "
    "20\n"
    "  The failed tasks as a manifest, to run them again:\n"
    "    drover job outcomes 0194f0c2-7d3e-7a51-9b1c-3f2a4c5d6e7f --limit 0 -o id > again.csv\n"
    "  For a script, an outcome on each line:\n"
    "    drover job outcomes 0194f0c2-7d3e-7a51-9b1c-3f2a4c5d6e7f --all --limit 0 -o json | jq .task.key\n";

// Everything that the command line can say.
struct Options {
  std::string server = kDefaultServer;
  std::string timeout = "30s";
  std::string reconnect_timeout = "2m";
  std::string output = "table";

  CreateFlags create;
  bool wait = false;
  bool watch = false;

  std::string job_id;
  std::string reason;
  int32_t priority = 0;
  std::vector<std::string> states;
  int64_t limit = kDefaultLimit;
  bool failed_outcomes = false;
  bool all_outcomes = false;
  std::optional<std::string> error_code;
  std::string key_prefix;
};

void Print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void PrintError(std::string_view text) {
  const std::string line = StrCat("drover: ", text, EndsWith(text, "\n") ? "" : "\n");
  std::fwrite(line.data(), 1, line.size(), stderr);
}

ExitCode Refused(const absl::Status& status) {
  PrintError(DescribeError(status));
  return ExitCodeForStatus(status);
}

ExitCode WrongUsage(std::string_view message) {
  PrintError(StrCat(message, "\nSee --help."));
  return ExitCode::kUsage;
}

std::optional<size_t> TerminalColumns() {
  if (isatty(STDERR_FILENO) == 0) return std::nullopt;
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kDefaultColumns;
  return size.ws_col;
}

// One run of the program: the options, and a client for them.
class Session {
 public:
  Session(const Options& options, Client& client, absl::Duration patience)
      : options_(options), client_(client), patience_(patience) {}

  ExitCode Create() {
    CreateFlags flags = options_.create;
    if (flags.request_id.empty()) flags.request_id = NewUuid7(SystemClock(), SystemRandom());
    if (!flags.from.empty()) {
      auto text = ReadJobFile(flags.from);
      if (!text.ok()) return WrongUsage(FromAbsl(text.status().message()));
      flags.from_text = *std::move(text);
    }
    const auto request = BuildCreateRequest(flags);
    if (!request.ok()) return WrongUsage(FromAbsl(request.status().message()));
    const auto job = client_.CreateJob(*request);
    if (!job.ok()) return Refused(job.status());
    if (flags.validate_only) {
      if (json()) {
        Print(ToJson(*job, true));
      } else {
        PrintError("the request is right; no job was created");
      }
      return ExitCode::kOk;
    }
    if (!options_.wait && !options_.watch) {
      PrintJob(*job, StrCat("job ", Printable(job->job_id()), " created, ", StateName(job->state()), "\n"));
      return ExitCode::kOk;
    }
    if (options_.output == "id") Print(StrCat(Printable(job->job_id()), "\n"));
    if (!json() && options_.output != "id") PrintError(StrCat("job ", Printable(job->job_id()), " created"));
    return Follow(job->job_id(), options_.watch);
  }

  ExitCode Get() {
    const auto job = client_.GetJob(options_.job_id);
    if (!job.ok()) return Refused(job.status());
    PrintJob(*job, JobDetails(*job, SystemClock().Now()));
    return ExitCode::kOk;
  }

  ExitCode List() {
    std::vector<v1::JobState> states;
    for (const std::string& name : options_.states) {
      states.push_back(StateFromName(name));
      if (states.back() == v1::JOB_STATE_UNSPECIFIED)
        return WrongUsage(StrCat("there is no status \"", name, "\""));
    }
    const auto jobs = client_.ListJobs(states, options_.limit);
    if (!jobs.ok()) return Refused(jobs.status());
    if (json()) {
      v1::ListJobsResponse all;
      for (const v1::Job& job : *jobs) *all.add_jobs() = job;
      Print(ToJson(all, true));
    } else if (options_.output == "id") {
      for (const v1::Job& job : *jobs) Print(StrCat(Printable(job.job_id()), "\n"));
    } else {
      Print(JobTable(*jobs, SystemClock().Now()));
    }
    return ExitCode::kOk;
  }

  ExitCode Watch() { return Follow(options_.job_id, true); }

  using Change = absl::StatusOr<v1::Job> (Client::*)(const std::string&, const std::string&);
  ExitCode ChangeJob(Change change) { return Changed((client_.*change)(options_.job_id, options_.reason)); }

  ExitCode Priority() { return Changed(client_.UpdateJobPriority(options_.job_id, options_.priority)); }

  // Outcomes are printed as they arrive: there may be millions.
  ExitCode Outcomes() {
    v1::ListTaskOutcomesRequest request;
    request.set_job_id(options_.job_id);
    request.set_include_succeeded(options_.all_outcomes);
    if (options_.error_code) request.set_error_code(*options_.error_code);
    request.set_key_prefix(options_.key_prefix);
    bool any = false;
    const auto show = [&](const v1::RecordedOutcome& outcome) {
      if (json()) {
        Print(ToJson(outcome, false));
      } else if (options_.output == "id") {
        Print(ManifestLine(outcome.task()));
      } else {
        Print(StrCat(any ? "" : OutcomeHeader(), OutcomeLine(outcome)));
      }
      any = true;
    };
    const auto listing = client_.ListTaskOutcomes(std::move(request), options_.limit, show);
    if (!listing.ok()) return Refused(listing.status());
    if (listing->more) PrintError(StrCat("there are more than ", options_.limit, "; --limit 0 shows all"));
    if (listing->open) PrintError("the job has not ended: earlier batches may still gain outcomes");
    return ExitCode::kOk;
  }

  ExitCode Summary() {
    const auto job = client_.GetJob(options_.job_id);
    if (!job.ok()) return Refused(job.status());
    if (json()) {
      Print(ToJson(job->failure_summary(), true));
    } else if (options_.output == "id") {
      for (const v1::FailureGroup& group : job->failure_summary().groups())
        Print(StrCat(Printable(group.error_code()), "\n"));
    } else {
      Print(StrCat("job ", Printable(job->job_id()), " is ", StateName(job->state()), ": ",
                   FormatCount(job->progress().failed_tasks()), " failed of ",
                   FormatCount(job->progress().succeeded_tasks() + job->progress().failed_tasks()),
                   " executed tasks\n"));
      if (job->failure_summary().groups_size() > 0) Print(SummaryTable(job->failure_summary()));
    }
    return ExitCode::kOk;
  }

  ExitCode Workers() {
    const auto workers = client_.ListWorkers();
    if (!workers.ok()) return Refused(workers.status());
    if (json()) {
      v1::ListWorkersResponse all;
      for (const v1::Worker& worker : *workers) *all.add_workers() = worker;
      Print(ToJson(all, true));
    } else if (options_.output == "id") {
      for (const v1::Worker& worker : *workers) Print(StrCat(Printable(worker.session_id()), "\n"));
    } else {
      Print(WorkerTable(*workers, SystemClock().Now()));
    }
    return ExitCode::kOk;
  }

 private:
  bool json() const { return options_.output == "json"; }

  void PrintJob(const v1::Job& job, const std::string& text) const {
    if (json()) {
      Print(ToJson(job, true));
    } else if (options_.output == "id") {
      Print(StrCat(Printable(job.job_id()), "\n"));
    } else {
      Print(text);
    }
  }

  ExitCode Changed(const absl::StatusOr<v1::Job>& job) const {
    if (!job.ok()) return Refused(job.status());
    PrintJob(*job, StrCat("job ", Printable(job->job_id()), " is ", StateName(job->state()), ", priority ",
                          job->priority(), "\n"));
    return ExitCode::kOk;
  }

  static absl::StatusOr<std::string> ReadJobFile(const std::string& path) {
    std::ifstream file;
    if (path != "-") file.open(path, std::ios::binary);
    std::istream& in = path == "-" ? std::cin : file;
    std::string text(static_cast<size_t>(kMaxJobFileBytes) + 1, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(std::max<std::streamsize>(in.gcount(), 0)));
    if (!in.eof() && text.empty()) return absl::NotFoundError(StrCat("cannot read ", path));
    if (text.size() > static_cast<size_t>(kMaxJobFileBytes)) {
      return absl::InvalidArgumentError(StrCat(path, " is larger than ", kMaxJobFileBytes, " bytes"));
    }
    return text;
  }

  // Until the job's end: with progress on standard error, or as a JSON object a line on standard output.
  ExitCode Follow(const std::string& job_id, bool show) {
    ProgressView view(TerminalColumns(), SystemClock(), [](std::string_view text) {
      std::fwrite(text.data(), 1, text.size(), stderr);
      std::fflush(stderr);
    });
    bool broken = false;
    Client::WatchOptions watch;
    watch.patience = patience_;
    watch.on_job = [&](const v1::Job& job) {
      broken = false;
      if (json() && show) {
        Print(ToJson(job, false));
      } else if (show) {
        view.Update(job);
      }
    };
    watch.on_break = [&](const absl::Status& status) {
      if (!std::exchange(broken, true))
        view.Note(StrCat("connection lost, trying again: ", FromAbsl(status.message())));
    };
    const auto job = client_.WatchJob(job_id, watch);
    view.Finish();
    if (!job.ok()) return Refused(job.status());
    if (json()) {
      if (!show) Print(ToJson(*job, true));
    } else if (options_.output != "id") {
      Print(JobSummary(*job));
    }
    return ExitCodeForJob(*job);
  }

  const Options& options_;
  Client& client_;
  const absl::Duration patience_;
};

using Command = ExitCode (*)(Session&);

// Builds the whole command line over `options`; the command that was chosen goes to `chosen`.
class CommandLine {
 public:
  CommandLine(Options& options, const std::string& version)
      : o_(options),
        app_("Drover's command line: runs jobs over many objects in S3-compatible stores.", "drover") {
    app_.set_version_flag("--version", StrCat("drover ", version));
    app_.footer(StrCat(kExamples, "\n", kExitCodes));
    app_.require_subcommand(1);
    app_.fallthrough();
    app_.add_option("--server", o_.server, "Controllers, host:port, separated by commas; tried in turn")
        ->envname("DROVER_SERVER")
        ->capture_default_str();
    app_.add_option("--timeout", o_.timeout, "Longest time of a call, e.g. 30s")->capture_default_str();
    app_.add_option("-o,--output", o_.output, "table for people, json (protobuf JSON), or id (ids only)")
        ->check(CLI::IsMember({"table", "json", "id"}))
        ->capture_default_str();

    CLI::App* job = app_.add_subcommand("job", "Create, see and change jobs");
    job->require_subcommand(1);
    job->fallthrough();
    AddCreate(*job);
    CLI::App* get = Add(*job, "get", "Show one job", [](Session& s) { return s.Get(); });
    AddJobId(*get);
    AddList(*job);
    AddOutcomes(*job);
    CLI::App* summary = Add(*job, "summary", "Count a job's failed tasks by error code, with examples",
                            [](Session& s) { return s.Summary(); });
    AddJobId(*summary);
    summary->footer(kOutcomeExamples);
    CLI::App* watch = Add(*job, "watch", "Follow a job until it ends", [](Session& s) { return s.Watch(); });
    AddJobId(*watch);
    AddReconnect(*watch);
    watch->footer(kExitCodes);
    AddChange(*job, "cancel", "Stop a job for good; running tasks get 30 s",
              [](Session& s) { return s.ChangeJob(&Client::CancelJob); });
    AddChange(*job, "pause", "Hold a job; running tasks finish",
              [](Session& s) { return s.ChangeJob(&Client::PauseJob); });
    AddChange(*job, "resume", "Let a paused job go on",
              [](Session& s) { return s.ChangeJob(&Client::ResumeJob); });
    AddChange(*job, "confirm", "Let a job start that waits for confirmation",
              [](Session& s) { return s.ChangeJob(&Client::ConfirmJob); });
    CLI::App* priority =
        Add(*job, "priority", "Change a job's priority", [](Session& s) { return s.Priority(); });
    AddJobId(*priority);
    priority->add_option("priority", o_.priority, "0 to 2147483647, higher first")
        ->required()
        ->check(CLI::Range(0, std::numeric_limits<int32_t>::max()));

    CLI::App* worker = app_.add_subcommand("worker", "See the worker fleet");
    worker->require_subcommand(1);
    worker->fallthrough();
    Add(*worker, "list", "List the workers", [](Session& s) { return s.Workers(); });
  }

  // 0 and no command after --help and --version, which are printed; 2 for a wrong line.
  std::optional<ExitCode> Parse(int argc, const char* const* argv) {
    try {
      app_.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      if (app_.exit(error) == 0) return ExitCode::kOk;
      // A misspelled command is left over, and CLI11 says only that one is missing.
      for (const std::string& word : app_.remaining(true))
        PrintError(StrCat("not understood: ", Printable(word)));
      return ExitCode::kUsage;
    }
    return std::nullopt;
  }

  Command command() const {
    const CLI::App* leaf = &app_;
    while (!leaf->get_subcommands().empty()) leaf = leaf->get_subcommands().front();
    return commands_.at(leaf);
  }

 private:
  CLI::App* Add(CLI::App& parent, const std::string& name, const std::string& help, Command command) {
    CLI::App* app = parent.add_subcommand(name, help);
    app->fallthrough();
    commands_[app] = command;
    return app;
  }

  void AddJobId(CLI::App& app) { app.add_option("job", o_.job_id, "The job's id")->required(); }

  void AddReconnect(CLI::App& app) {
    app.add_option("--reconnect-timeout", o_.reconnect_timeout,
                   "How long a watch tries to get its stream back")
        ->capture_default_str();
  }

  void AddChange(CLI::App& job, const std::string& name, const std::string& help, Command command) {
    CLI::App* app = Add(job, name, help, command);
    AddJobId(*app);
    app->add_option("--reason", o_.reason, "Why, at most 256 characters; kept with the change");
  }

  void AddOutcomes(CLI::App& job) {
    CLI::App* outcomes =
        Add(job, "outcomes", "List what became of a job's tasks, in the order of the manifest",
            [](Session& s) { return s.Outcomes(); });
    AddJobId(*outcomes);
    CLI::Option* failed =
        outcomes->add_flag("--failed", o_.failed_outcomes, "Failed tasks only; the default");
    outcomes->add_flag("--all", o_.all_outcomes, "All tasks that were executed")->excludes(failed);
    outcomes->add_option("--code", o_.error_code,
                         "Only outcomes with exactly this error code; \"\": without one");
    outcomes->add_option("--prefix", o_.key_prefix, "Only keys that begin so");
    outcomes->add_option("--limit", o_.limit, "At most so many; 0 for all")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    outcomes->footer(kOutcomeExamples);
  }

  void AddList(CLI::App& job) {
    CLI::App* list = Add(job, "list", "List jobs, newest first", [](Session& s) { return s.List(); });
    list->add_option("--status", o_.states, "Only jobs in these states, e.g. Active,Paused")
        ->delimiter(',')
        ->allow_extra_args(false);
    list->add_option("--limit", o_.limit, "At most so many; 0 for all")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
  }

  void AddCreate(CLI::App& job) {
    CLI::App* create = Add(job, "create", "Create a job", [](Session& s) { return s.Create(); });
    create->footer(StrCat(kCreateExamples, "\n", kExitCodes));
    CreateFlags& c = o_.create;
    create->add_option("--from", c.from,
                       "A Job as protobuf JSON (- for standard input); other flags change it");
    const auto group = [create](const std::string& name) { return create->add_option_group(name); };

    CLI::Option_group* operation = group("Operation");
    operation->add_option("--operation", c.operation, OperationWords());
    operation->add_option("--store", c.store, "Store of the objects, as stores.yaml names it");
    operation->add_option("--tag", c.tags, "put-tags: KEY=VALUE, up to ten; none removes all tags")
        ->allow_extra_args(false);
    operation->add_option("--add-tag", c.add_tags, "change-tags: KEY=VALUE to add or to give a new value")
        ->allow_extra_args(false);
    operation->add_option("--remove-tag", c.remove_tags, "change-tags: KEY to remove")
        ->allow_extra_args(false);
    operation->add_flag("--bypass-governance", c.bypass_governance,
                        "delete: also what governance retention protects");
    operation->add_option("--target-bucket", c.target_bucket,
                          "copy: bucket of the copies; else each object's own");
    operation->add_option("--target-prefix", c.target_prefix, "copy: put before each key, as it is");
    operation->add_option("--target-store", c.target_store, "copy: store of the copies; else the objects'");
    operation->add_option("--noop-duration", c.noop_duration, "noop: how long each task takes, e.g. 20ms");
    operation->add_option("--noop-failure-fraction", c.noop_failure_fraction,
                          "noop: share of tasks that fail, 0 to 1");

    CLI::Option_group* manifest = group("Manifest");
    manifest->add_option("--manifest", c.manifest, "STORE/BUCKET/KEY of a CSV manifest");
    manifest->add_option("--manifest-store", c.manifest_store, "The same in parts: store");
    manifest->add_option("--manifest-bucket", c.manifest_bucket, "… bucket");
    manifest->add_option("--manifest-key", c.manifest_key, "… key");
    manifest->add_option("--manifest-version", c.manifest_version, "Version of the manifest object");
    manifest->add_option("--manifest-etag", c.manifest_etag, "Its ETag; needed for stores of kind s3");
    manifest->add_option("--fields", c.fields,
                         "Its columns: Bucket,Key,VersionId,Ignore; default Bucket,Key");

    CLI::Option_group* report = group("Report");
    report->add_option("--report", c.report,
                       "STORE/BUCKET[/PREFIX] of the completion report; else there is none");
    report->add_option("--report-store", c.report_store, "The same in parts: store");
    report->add_option("--report-bucket", c.report_bucket, "… bucket");
    report->add_option("--report-prefix", c.report_prefix, "… prefix");
    report->add_option("--report-scope", c.report_scope, "all tasks (default) or failed ones only");

    CLI::Option_group* run = group("Running");
    run->add_option("--priority", c.priority, "0 to 2147483647, higher first; default 0")
        ->check(CLI::Range(0, std::numeric_limits<int32_t>::max()));
    run->add_option("--description", c.description, "At most 256 characters");
    run->add_flag("--confirm-required", c.confirmation_required, "Wait for `job confirm` before running");
    run->add_flag("--skip-confirmation", c.skip_confirmation,
                  "delete: run without waiting for `job confirm`");
    run->add_option("--failure-fraction", c.failure_fraction,
                    "Stop when more than this share failed; default 0.5");
    run->add_option("--failure-minimum", c.failure_minimum,
                    "… of at least so many executed tasks; default 1000");
    run->add_option("--failure-tasks", c.failure_tasks, "Stop when more tasks than this failed");
    run->add_option("--failure-action", c.failure_action, "What stopping means: fail (default) or pause");
    run->add_flag("--no-failure-threshold", c.no_failure_threshold, "Never stop because of failed tasks");

    CLI::Option_group* call = group("Call");
    call->add_option("--request-id", c.request_id, "Makes repeating the call harmless; default: random");
    call->add_flag("--validate-only", c.validate_only, "Have everything checked and create nothing");
    call->add_flag("--wait", o_.wait, "Wait for the job's end; its result is the exit code");
    call->add_flag("--watch", o_.watch, "The same, and show progress");
    AddReconnect(*create);
  }

  Options& o_;
  CLI::App app_;
  std::map<const CLI::App*, Command> commands_;
};

}  // namespace

ExitCode Run(int argc, const char* const* argv, const std::string& version) {
  Options options;
  CommandLine line(options, version);
  if (const auto exit = line.Parse(argc, argv); exit.has_value()) return *exit;
  absl::Duration timeout;
  absl::Duration patience;
  if (!absl::ParseDuration(options.timeout, &timeout) || timeout <= absl::ZeroDuration() ||
      timeout > kLongestTimeout) {
    return WrongUsage("--timeout is a duration like 30s, at most 24h");
  }
  if (!absl::ParseDuration(options.reconnect_timeout, &patience) || patience < absl::ZeroDuration()) {
    return WrongUsage("--reconnect-timeout is a duration like 2m, or inf");
  }
  std::vector<std::string> servers;
  for (const std::string_view server : Split(options.server, ',')) {
    if (StripWhitespace(server).empty())
      return WrongUsage("--server names host:port, several separated by commas");
    servers.emplace_back(StripWhitespace(server));
  }
  Client client(std::move(servers), timeout);
  Session session(options, client, patience);
  return line.command()(session);
}

}  // namespace drover::cli

#include "cli/commands.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <limits>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "cli/client.h"
#include "cli/command_tree.h"
#include "cli/completion.h"
#include "cli/create_request.h"
#include "cli/job_file.h"
#include "cli/job_schema.h"
#include "cli/man_page.h"
#include "cli/manifest_upload.h"
#include "cli/operation_words.h"
#include "cli/outcomes.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/yaml.h"
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
// Completion: the shell waits, and shows nothing of what goes wrong.
constexpr char kCompletionCommand[] = "complete-words";
constexpr absl::Duration kCompletionTimeout = absl::Seconds(1);
constexpr int64_t kCompletedJobs = 50;

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
    "  drover worker list -o json\n"
    "  source <(drover completion bash)\n";

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
    "  Jobs from a file of one or several YAML documents, with a value of it changed:\n"
    "    drover job create -f jobs.yaml --set operation.store=staging --request-id jobs-2026-02-03\n"
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
  std::string shell;
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

// The servers of --server; none if it isn't a list of them.
std::vector<std::string> ServersOf(std::string_view text) {
  std::vector<std::string> servers;
  for (const std::string_view server : Split(text, ',')) {
    if (StripWhitespace(server).empty()) return {};
    servers.emplace_back(StripWhitespace(server));
  }
  return servers;
}

// The latest jobs for completion; none if no server answers at once.
std::vector<Candidate> RecentJobs(const std::string& server) {
  const char* from_environment = std::getenv("DROVER_SERVER");
  const std::string fallback = from_environment == nullptr ? kDefaultServer : from_environment;
  std::vector<std::string> servers = ServersOf(server.empty() ? fallback : server);
  if (servers.empty()) return {};
  const auto jobs = Client(std::move(servers), kCompletionTimeout).ListJobs({}, kCompletedJobs);
  std::vector<Candidate> candidates;
  if (!jobs.ok()) return candidates;
  for (const v1::Job& job : *jobs)
    candidates.push_back({job.job_id(), StrCat(StateName(job.state()), job.description().empty() ? "" : " ",
                                               job.description())});
  return candidates;
}

std::vector<std::string> StateNames() {
  std::vector<std::string> names;
  for (int state = v1::NEW; state <= v1::JobState_MAX; ++state)
    names.push_back(StateName(static_cast<v1::JobState>(state)));
  return names;
}

// One run of the program: the options, and a client for them.
class Session {
 public:
  Session(const Options& options, Client& client, absl::Duration patience)
      : options_(options), client_(client), patience_(patience) {}

  // All jobs are read and checked, by the server too, before the first is created: a mistake in one of
  // several leaves nothing half done.
  ExitCode Create() {
    CreateFlags flags = options_.create;
    if (const absl::Status status = ReadKeys(flags); !status.ok())
      return WrongUsage(FromAbsl(status.message()));
    std::vector<JobDocument> documents(1);
    if (!flags.file.empty()) {
      auto read = ReadDocuments(flags.file);
      if (!read.ok()) return WrongFile(FromAbsl(read.status().message()));
      documents = *std::move(read);
    }
    std::vector<v1::CreateJobRequest> requests;
    for (size_t i = 0; i < documents.size(); ++i) {
      auto request = BuildCreateRequest(flags, documents[i].job);
      if (!request.ok()) return WrongUsage(FromAbsl(request.status().message()));
      request->set_request_id(RequestIdOf(flags, documents[i].request_id, i, documents.size()));
      if (request->request_id().empty()) request->set_request_id(NewUuid7(SystemClock(), SystemRandom()));
      requests.push_back(*std::move(request));
    }
    std::optional<ManifestUpload> upload;
    if (UploadsManifest(flags)) {
      if (requests.size() > 1) return WrongUsage("--manifest - goes with one job");
      auto opened = ManifestUpload::Open(flags.source.stores, *flags.source.upload, requests[0].request_id());
      if (!opened.ok()) return WrongUsage(FromAbsl(opened.status().message()));
      upload = *std::move(opened);
      upload->Announce(*requests[0].mutable_job()->mutable_manifest()->mutable_csv());
    }
    // An upload may take hours: what is wrong with its job is better known before.
    if (flags.validate_only || requests.size() > 1 || upload) {
      std::vector<v1::Job> checked;
      for (size_t i = 0; i < requests.size(); ++i) {
        v1::CreateJobRequest request = requests[i];
        request.set_validate_only(true);
        auto job = client_.CreateJob(request);
        if (!job.ok()) return RefusedDocument(job.status(), documents[i]);
        checked.push_back(*std::move(job));
      }
      if (flags.validate_only) return Validated(checked);
    }
    if (upload) {
      v1::CsvManifest& csv = *requests[0].mutable_job()->mutable_manifest()->mutable_csv();
      const absl::Status status = upload->Run(StandardInput(), flags.source.compression.has_value(), csv);
      if (!status.ok()) return Refused(status);
      PrintError(StrCat("manifest uploaded to ", upload->place(), ", SHA-256 ", csv.sha256()));
    }
    std::vector<v1::Job> jobs;
    for (size_t i = 0; i < requests.size(); ++i) {
      auto job = client_.CreateJob(requests[i]);
      if (!job.ok() && upload) TakeBack(*upload, job.status());
      if (!job.ok()) return Interrupted(job.status(), documents, jobs);
      jobs.push_back(*std::move(job));
      Created(jobs.back());
    }
    if (!options_.wait && !options_.watch) return ExitCode::kOk;
    ExitCode worst = ExitCode::kOk;
    for (const v1::Job& job : jobs) worst = std::max(worst, Follow(job.job_id(), options_.watch));
    return worst;
  }

  ExitCode Get() {
    const auto job = client_.GetJob(options_.job_id);
    if (!job.ok()) return Refused(job.status());
    PrintJob(*job, JobDetails(*job, SystemClock().Now()));
    return ExitCode::kOk;
  }

  ExitCode Export() {
    const auto job = client_.GetJob(options_.job_id);
    if (!job.ok()) return Refused(job.status());
    Print(options_.output == "json" ? ToJson(InputOf(*job), true) : WriteJobFile(*job));
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
    if (ForScripts()) {
      v1::ListJobsResponse all;
      for (const v1::Job& job : *jobs) *all.add_jobs() = job;
      PrintMessage(all);
    } else if (options_.output == "id") {
      for (const v1::Job& job : *jobs) Print(StrCat(Printable(job.job_id()), "\n"));
    } else {
      Print(JobTable(*jobs, SystemClock().Now()));
    }
    return ExitCode::kOk;
  }

  ExitCode Watch() { return Follow(options_.job_id, true); }

  ExitCode Completion() const {
    Print(CompletionScript(options_.shell));
    return ExitCode::kOk;
  }

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
      if (ForScripts()) {
        PrintMessage(outcome, true);
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
    if (ForScripts()) {
      PrintMessage(job->failure_summary());
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
    if (ForScripts()) {
      v1::ListWorkersResponse all;
      for (const v1::Worker& worker : *workers) *all.add_workers() = worker;
      PrintMessage(all);
    } else if (options_.output == "id") {
      for (const v1::Worker& worker : *workers) Print(StrCat(Printable(worker.session_id()), "\n"));
    } else {
      Print(WorkerTable(*workers, SystemClock().Now()));
    }
    return ExitCode::kOk;
  }

 private:
  // Whether messages are printed whole, as -o json or yaml.
  bool ForScripts() const { return options_.output == "json" || options_.output == "yaml"; }

  // A message as -o says; one of several with `stream`: JSON in one line, YAML as a document.
  void PrintMessage(const google::protobuf::Message& message, bool stream = false) const {
    if (options_.output == "yaml") {
      Print(StrCat(stream ? "---\n" : "", ToYaml(message, true)));
    } else {
      Print(ToJson(message, !stream));
    }
  }

  void PrintJob(const v1::Job& job, const std::string& text) const {
    if (ForScripts()) {
      PrintMessage(job);
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

  // Reads the file of --keys-from into the flags.
  static absl::Status ReadKeys(CreateFlags& flags) {
    const std::optional<std::string>& path = flags.source.keys_from;
    const int standard_input =
        (flags.file == "-" ? 1 : 0) + (path == "-" ? 1 : 0) + (UploadsManifest(flags) ? 1 : 0);
    if (standard_input > 1) return absl::InvalidArgumentError("standard input can be one thing only");
    if (!path) return absl::OkStatus();
    DROVER_ASSIGN_OR_RETURN(flags.source.keys_text, ReadKeysFile(*path));
    return absl::OkStatus();
  }

  // The job of an upload could not be created.
  static void TakeBack(ManifestUpload& upload, const absl::Status& status) {
    if (IsRefusal(status) && upload.Remove().ok()) {
      PrintError(StrCat("the uploaded manifest ", upload.place(), " was removed again"));
    } else {
      PrintError(StrCat("the uploaded manifest stays at ", upload.place(),
                        ": whether its job was created is not known, or it could not be removed"));
    }
  }

  // How the file is called in messages.
  std::string FileName() const {
    return options_.create.file == "-" ? "standard input" : options_.create.file;
  }

  absl::StatusOr<std::vector<JobDocument>> ReadDocuments(const std::string& path) const {
    std::ifstream file;
    if (path != "-") file.open(path, std::ios::binary);
    std::istream& in = path == "-" ? std::cin : file;
    std::string text(kMaxYamlBytes + 1,
                     '\0');  // a byte more than is read: ReadJobFile() sees that it is too large
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(std::max<std::streamsize>(in.gcount(), 0)));
    if (!in.eof() && text.empty()) return absl::NotFoundError(StrCat("cannot read ", path));
    return ReadJobFile(FileName(), text);
  }

  static ExitCode WrongFile(std::string_view message) {
    PrintError(StrCat(absl::StrContains(ToAbsl(message), '\n') ? "the job file is wrong:\n" : "", message,
                      "\nNothing was sent."));
    return ExitCode::kUsage;
  }

  // A refusal, with the places in the file that it is about.
  ExitCode RefusedDocument(const absl::Status& status, const JobDocument& document) const {
    if (document.place.line == 0) return Refused(status);
    PrintError(StrCat(
        "the job of ", FileName(), ":", document.place.line, ": ",
        DescribeError(status, [&](std::string_view field) { return PlaceOf(FileName(), document, field); })));
    return ExitCodeForStatus(status);
  }

  // The call for the next document failed after some jobs were created.
  ExitCode Interrupted(const absl::Status& status, const std::vector<JobDocument>& documents,
                       const std::vector<v1::Job>& jobs) const {
    const ExitCode code = RefusedDocument(status, documents[jobs.size()]);
    if (documents.size() > 1) {
      PrintError(
          StrCat(jobs.size(), " of ", documents.size(), " jobs were created",
                 jobs.empty() ? "" : "; the same command makes those again unless they have request ids"));
    }
    return code;
  }

  ExitCode Validated(const std::vector<v1::Job>& jobs) const {
    if (ForScripts()) {
      for (const v1::Job& job : jobs) PrintMessage(job, jobs.size() > 1);
    } else {
      PrintError(jobs.size() == 1 ? std::string("the request is right; no job was created")
                                  : StrCat("the ", jobs.size(), " requests are right; no job was created"));
    }
    return ExitCode::kOk;
  }

  // Says that a job was created; what is printed at its end is not printed now.
  void Created(const v1::Job& job) const {
    const bool follow = options_.wait || options_.watch;
    const std::string id = Printable(job.job_id());
    if (options_.output == "id") {
      Print(StrCat(id, "\n"));
    } else if (!follow && ForScripts()) {
      PrintMessage(job, options_.output == "yaml" && !options_.create.file.empty());
    } else if (!follow) {
      Print(StrCat("job ", id, " created, ", StateName(job.state()), "\n"));
    } else if (!ForScripts()) {
      PrintError(StrCat("job ", id, " created"));
    }
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
      if (ForScripts() && show) {
        PrintMessage(job, true);
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
    if (ForScripts()) {
      if (!show) PrintMessage(*job);
    } else if (options_.output != "id") {
      Print(JobSummary(*job));
    }
    return ExitCodeForJob(*job);
  }

  const Options& options_;
  Client& client_;
  const absl::Duration patience_;
};

using Command = std::function<ExitCode(Session&)>;

// Builds the whole command line over `options`; the command that was chosen goes to `chosen`.
class CommandLine {
 public:
  CommandLine(Options& options, const std::string& version)
      : o_(options),
        version_(version),
        app_("Drover's command line: runs jobs over many objects in S3-compatible stores.", "drover") {
    app_.set_version_flag("--version", StrCat("drover ", version));
    app_.footer(StrCat(kExamples, "\n", kExitCodes));
    app_.require_subcommand(1);
    app_.fallthrough();
    app_.add_option("--server", o_.server, "Controllers, host:port, separated by commas; tried in turn")
        ->type_name("SERVERS")
        ->envname("DROVER_SERVER")
        ->capture_default_str();
    app_.add_option("--timeout", o_.timeout, "Longest time of a call, e.g. 30s")
        ->type_name("DURATION")
        ->capture_default_str();
    Choice(*app_.add_option("-o,--output", o_.output,
                            "table for people, json (protobuf JSON), yaml, or id (ids only)")
                ->type_name("FORMAT")
                ->capture_default_str(),
           {"table", "json", "yaml", "id"});

    CLI::App* job = app_.add_subcommand("job", "Create, see and change jobs");
    job->require_subcommand(1);
    job->fallthrough();
    AddCreate(*job);
    CLI::App* get = Add(*job, "get", "Show one job", [](Session& s) { return s.Get(); });
    AddJobId(*get);
    CLI::App* exported =
        Add(*job, "export", "Print a job as a file for job create -f", [](Session& s) { return s.Export(); });
    AddJobId(*exported);
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

    CLI::App* completion =
        Add(app_, "completion", "Print the script that lets a shell complete command lines",
            [](Session& s) { return s.Completion(); });
    Choice(*completion->add_option("shell", o_.shell, "Which shell")->required(), {"bash", "zsh"});
    Add(app_, "schema", "Print the JSON schema of job files, for editors", [](Session&) {
      Print(JobSchema());
      return ExitCode::kOk;
    });
    Add(app_, "man", "Print the manual page", [this](Session&) {
      Print(ManPage(Tree(), version_));
      return ExitCode::kOk;
    });
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

  // All commands and options as data.
  CommandNode Tree() const { return TreeOf(app_); }

 private:
  CommandNode TreeOf(const CLI::App& app) const {
    CommandNode node{.name = app.get_name(), .help = app.get_description(), .footer = app.get_footer()};
    AddOptions(app, "", node);
    for (const CLI::App* inner : app.get_subcommands([](const CLI::App*) { return true; })) {
      if (inner->get_name().empty()) {  // an option group
        AddOptions(*inner, inner->get_group(), node);
      } else {
        node.commands.push_back(TreeOf(*inner));
      }
    }
    return node;
  }

  void AddOptions(const CLI::App& app, const std::string& group, CommandNode& node) const {
    for (const CLI::Option* option : app.get_options()) {
      CommandOption made{
          .help = option->get_description(), .group = group, .required = option->get_required()};
      if (option == app.get_help_ptr() && &app != &app_) continue;  // once for all commands
      for (const std::string& name : option->get_snames()) made.names.push_back("-" + name);
      for (const std::string& name : option->get_lnames()) made.names.push_back("--" + name);
      const bool positional = made.names.empty();
      if (positional) {
        made.value = absl::AsciiStrToUpper(option->get_name(true));
      } else if (option->get_items_expected_max() > 0) {  // else a flag
        const std::string type = option->get_type_name();
        made.value = type.substr(0, type.find_first_of(":{ "));
      }
      // A flag's is "false" or nothing, and says nothing.
      if (!made.value.empty()) made.default_value = option->get_default_str();
      if (const auto hint = hints_.find(option); hint != hints_.end()) {
        made.kind = hint->second.kind;
        made.choices = hint->second.choices;
        made.list = hint->second.list;
      }
      (positional ? node.positionals : node.options).push_back(std::move(made));
    }
  }

  // What completion knows of an option's values.
  struct Hint {
    ValueKind kind;
    std::vector<std::string> choices;
    bool list = false;
  };

  // Only these values are let through.
  void Choice(CLI::Option& option, std::vector<std::string> choices) {
    option.check(CLI::IsMember(choices));
    hints_[&option] = {ValueKind::kChoice, std::move(choices)};
  }

  CLI::App* Add(CLI::App& parent, const std::string& name, const std::string& help, Command command) {
    CLI::App* app = parent.add_subcommand(name, help);
    app->fallthrough();
    commands_[app] = std::move(command);
    return app;
  }

  void AddJobId(CLI::App& app) {
    hints_[app.add_option("job", o_.job_id, "The job's id")->required()] = {ValueKind::kJobId, {}};
  }

  void AddReconnect(CLI::App& app) {
    app.add_option("--reconnect-timeout", o_.reconnect_timeout,
                   "How long a watch tries to get its stream back")
        ->capture_default_str();
  }

  void AddChange(CLI::App& job, const std::string& name, const std::string& help, Command command) {
    CLI::App* app = Add(job, name, help, std::move(command));
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
    CLI::Option* status =
        list->add_option("--status", o_.states, "Only jobs in these states, e.g. Active,Paused")
            ->delimiter(',')
            ->allow_extra_args(false);
    hints_[status] = {ValueKind::kChoice, StateNames(), true};
    list->add_option("--limit", o_.limit, "At most so many; 0 for all")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
  }

  void AddManifestSource(CLI::Option_group& group, ManifestSourceFlags& source) {
    Choice(*group.add_option("--compression", source.compression,
                             "How the manifest is compressed: none (default), gzip or zstd"),
           {"none", "gzip", "zstd"});
    group.add_option("--upload", source.upload,
                     "Where --manifest - goes: STORE/BUCKET/KEY, or STORE/BUCKET/PREFIX/ for a key made up");
    CLI::Option* stores = group.add_option("--stores", source.stores,
                                           "The stores.yaml that says how to reach the store of --upload");
    hints_[stores->envname("DROVER_STORES")->type_name("FILE")] = {ValueKind::kFile, {}};
    group.add_option("--key", source.keys, "BUCKET/KEY of an object, instead of a manifest; may be repeated")
        ->allow_extra_args(false);
    CLI::Option* from =
        group.add_option("--keys-from", source.keys_from,
                         "A file of such keys, one a line (- for standard input); 10,000 at most");
    hints_[from->type_name("FILE")] = {ValueKind::kFile, {}};
    group.add_option("--keys-bucket", source.keys_bucket,
                     "Bucket of all of them: --key and --keys-from then have keys only");
  }

  void AddCreate(CLI::App& job) {
    CLI::App* create = Add(job, "create", "Create a job", [](Session& s) { return s.Create(); });
    create->footer(StrCat(kCreateExamples, "\n", kExitCodes));
    CreateFlags& c = o_.create;
    CLI::Option* file =
        create->add_option("-f,--file,--from", c.file,
                           "Jobs as YAML or JSON documents (- for standard input); other flags change them");
    hints_[file->type_name("FILE")] = {ValueKind::kFile, {}};
    create
        ->add_option("--set", c.set, "PATH=VALUE: a field of the job, e.g. labels.team=blue; may be repeated")
        ->allow_extra_args(false);
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
    operation
        ->add_option("--new-metadata", c.copy.metadata,
                     "copy: NAME=VALUE instead of the objects' metadata: Content-Type, Cache-Control, "
                     "Content-Disposition, "
                     "Content-Encoding, Content-Language, Expires, or a name of your own")
        ->allow_extra_args(false);
    operation->add_flag("--no-metadata", c.copy.no_metadata, "copy: without the objects' metadata");
    operation->add_option("--new-tag", c.copy.tags, "copy: KEY=VALUE instead of the objects' tags, up to ten")
        ->allow_extra_args(false);
    operation->add_flag("--no-tags", c.copy.no_tags, "copy: without the objects' tags");
    operation->add_option("--storage-class", c.copy.storage_class, "copy: e.g. STANDARD_IA");
    operation->add_option("--acl", c.copy.acl, "copy: a canned ACL, e.g. bucket-owner-full-control");
    operation->add_option("--encryption", c.copy.encryption, "copy: AES256, aws:kms or aws:kms:dsse");
    operation->add_option("--kms-key", c.copy.kms_key,
                          "copy: id of the key; with aws:kms unless told otherwise");
    operation->add_option("--modified-since", c.copy.modified_since,
                          "copy: only objects changed after this time, e.g. 2026-01-31T12:00:00Z");
    operation->add_option("--unmodified-since", c.copy.unmodified_since,
                          "copy: only objects not changed after this time");
    operation->add_flag("--requester-pays", c.copy.requester_pays, "copy: the requester pays");
    operation->add_option("--noop-duration", c.noop_duration, "noop: how long each task takes, e.g. 20ms");
    operation->add_option("--noop-failure-fraction", c.noop_failure_fraction,
                          "noop: share of tasks that fail, 0 to 1");

    CLI::Option_group* manifest = group("Manifest");
    manifest->add_option("--manifest", c.manifest,
                         "STORE/BUCKET/KEY of a CSV manifest; s3://BUCKET/KEY with --manifest-store; or -: "
                         "standard input is uploaded");
    manifest->add_option("--manifest-store", c.manifest_store, "The same in parts: store");
    manifest->add_option("--manifest-bucket", c.manifest_bucket, "… bucket");
    manifest->add_option("--manifest-key", c.manifest_key, "… key");
    manifest->add_option("--manifest-version", c.manifest_version, "Version of the manifest object");
    manifest->add_option("--manifest-etag", c.manifest_etag, "Its ETag; needed for stores of kind s3");
    manifest->add_option("--fields", c.fields,
                         "Its columns: Bucket,Key,VersionId,Ignore; default Bucket,Key");
    AddManifestSource(*manifest, c.source);

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
  const std::string version_;
  CLI::App app_;
  std::map<const CLI::App*, Command> commands_;
  std::map<const CLI::Option*, Hint> hints_;
};

}  // namespace

ExitCode Run(int argc, const char* const* argv, const std::string& version) {
  Options options;
  CommandLine line(options, version);
  if (argc > 1 && std::string_view(argv[1]) == kCompletionCommand) {
    const int skipped = argc > 2 && std::string_view(argv[2]) == "--" ? 3 : 2;
    Print(CandidateLines(Complete(line.Tree(), {argv + skipped, argv + argc}, RecentJobs)));
    return ExitCode::kOk;
  }
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
  std::vector<std::string> servers = ServersOf(options.server);
  if (servers.empty()) return WrongUsage("--server names host:port, several separated by commas");
  Client client(std::move(servers), timeout);
  Session session(options, client, patience);
  return line.command()(session);
}

}  // namespace drover::cli

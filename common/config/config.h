// The settings of a program, declared in one table. Each setting is a flag, an environment variable and a key
// of the configuration file; docs/configuration.md is generated from the same table.
//
//   struct Options { std::string listen = "127.0.0.1:7600"; absl::Duration session_ttl = absl::Seconds(15);
//   };
//
//   Options options;
//   ConfigTable config("drover-controller", "Runs jobs.", DROVER_VERSION);
//   config.Section("Network");
//   config.AddString("listen", &options.listen, "Address of the gRPC server, host:port.");
//   config.Section("Workers");
//   config.AddDuration("session-ttl", &options.session_ttl, absl::Seconds(3), absl::Minutes(10), "When a
//   session ends."); config.AddCommand("migrate", "Brings the database's schema up to date, and exits.");
//   const std::string command = config.ParseOrExit(argc, argv);    // "" or "migrate"
//
// A value comes from the first of: the flag --session-ttl, the environment variable DROVER_SESSION_TTL, the
// key session-ttl of the file named by --config (YAML, one flat map), the default (what the variable held
// when it was added). Every program also has --help, --version, --print-config (the effective settings and
// where each comes from) and
// --help-markdown.
//
// Secrets (AddSecret) are never printed. They can also be given as --NAME-file, the name of a file that holds
// them.
#ifndef DROVER_COMMON_CONFIG_CONFIG_H_
#define DROVER_COMMON_CONFIG_CONFIG_H_

#include <concepts>
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace drover {

// The largest configuration file and secret file that is read.
inline constexpr int64_t kMaxConfigFileBytes = 1 << 20;

// "15s", "1m30s", "250ms" (absl::ParseDuration), finite. INVALID_ARGUMENT says what is expected.
absl::StatusOr<absl::Duration> ParseDurationSetting(std::string_view text);
// "1048576", "512KiB", "8MiB", "2GiB", not negative. INVALID_ARGUMENT says what is expected.
absl::StatusOr<int64_t> ParseBytesSetting(std::string_view text);

// Not thread-safe: it is built, parsed and done with at the start of main(). The variables given to Add… are
// written by Parse only, and only if everything is right.
class ConfigTable {
 public:
  using Environment = std::function<std::optional<std::string>(const std::string& name)>;

  ConfigTable(std::string program, std::string summary, std::string version);

  // Settings added from here on stand under this heading.
  void Section(std::string title);

  // Names are lower-case words joined by '-'. `help` is a sentence or two. Ranges are inclusive.
  void AddString(std::string name, std::string* value, std::string help);
  void AddSecret(std::string name, std::string* value, std::string help);
  void AddChoice(std::string name, std::string* value, std::vector<std::string> choices, std::string help);
  void AddBool(std::string name, bool* value, std::string help);
  void AddDouble(std::string name, double* value, double min, double max, std::string help);
  void AddDuration(std::string name, absl::Duration* value, absl::Duration min, absl::Duration max,
                   std::string help);
  // Written as "8MiB" or as a number of bytes.
  void AddBytes(std::string name, int64_t* value, int64_t min, int64_t max, std::string help);
  // Separated by commas, or a list in the file.
  void AddList(std::string name, std::vector<std::string>* value, std::string help);
  template <std::integral T>
    requires(!std::same_as<T, bool>)
  void AddInteger(std::string name, T* value, T min, T max, std::string help) {
    AddInt64(std::move(name), static_cast<int64_t>(*value), static_cast<int64_t>(min),
             static_cast<int64_t>(max), std::move(help),
             [value](int64_t parsed) { *value = static_cast<T>(parsed); });
  }

  // A word that may stand on the command line, at most one of them.
  void AddCommand(std::string name, std::string help);

  // Called after all values are set, for what one setting alone can't tell. Its error is Parse's.
  void AddCheck(std::function<absl::Status()> check);

  struct Result {
    std::string command;              // the command given, or ""
    std::optional<std::string> text;  // set: print it on standard output and exit with 0
  };

  // Reads flags, environment and file. INVALID_ARGUMENT (or the file's error) names every wrong setting,
  // where its value came from and what is expected; no variable is changed then, except by a failed check of
  // AddCheck.
  absl::StatusOr<Result> Parse(int argc, const char* const* argv, const Environment& environment);

  // Parse with the process's environment; prints and exits with 0 for --help and the like, with 2 for an
  // error.
  std::string ParseOrExit(int argc, const char* const* argv);

  // The table as Markdown, a section per heading. Needs no Parse.
  std::string Markdown() const;
  // What --help prints.
  std::string Help() const;
  // The effective settings after Parse, a line each: name, value, origin. Secrets show only whether they are
  // set.
  std::string Effective() const;

 private:
  struct Setting {
    std::string name;
    std::string section;
    std::string type;           // "integer, 1 to 100"
    std::string default_value;  // as it would be written
    std::string help;
    bool secret = false;
    bool flag = false;  // --name alone means true
    // Checks `text`; the function returned writes the variable.
    std::function<absl::StatusOr<std::function<void()>>(const std::string& text)> parse;
    std::string current;
    std::string origin = "default";
  };
  struct Command {
    std::string name;
    std::string help;
  };
  struct Given {
    std::string text;
    std::string origin;
  };

  Setting& Add(std::string name, std::string type, std::string default_value, std::string help);
  void AddInt64(std::string name, int64_t value, int64_t min, int64_t max, std::string help,
                std::function<void(int64_t)> set);
  absl::Status ReadFile(const std::string& path, std::vector<std::optional<Given>>& given) const;

  std::string program_;
  std::string summary_;
  std::string version_;
  std::string section_;
  std::vector<Setting> settings_;
  std::vector<Command> commands_;
  std::vector<std::function<absl::Status()>> checks_;
};

}  // namespace drover

#endif  // DROVER_COMMON_CONFIG_CONFIG_H_

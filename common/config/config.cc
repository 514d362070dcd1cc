#include "common/config/config.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <sstream>

#include "CLI/CLI.hpp"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "yaml-cpp/yaml.h"

namespace drover {
namespace {

// Flags that every program has; no setting may be called so.
constexpr std::string_view kReserved[] = {"config", "help", "help-markdown", "print-config", "version"};

constexpr int kExitUsage = 2;

using Setter = std::function<void()>;

std::string EnvironmentName(std::string_view name) {
  std::string out = StrCat("DROVER_", name);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c == '-' ? '_' : absl::ascii_toupper(static_cast<unsigned char>(c)); });
  return out;
}

std::string BytesText(int64_t value) {
  constexpr std::pair<int64_t, std::string_view> kUnits[] = {
      {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}};
  for (const auto& [size, unit] : kUnits) {
    if (value != 0 && value % size == 0) return StrCat(value / size, unit);
  }
  return StrCat(value);
}

std::string DoubleText(double value) { return StrCat(value); }

absl::Status OutOfRange(std::string_view min, std::string_view max) {
  return absl::InvalidArgumentError(StrCat("must be ", min, " to ", max));
}

absl::StatusOr<std::string> ReadWholeFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return absl::NotFoundError(StrCat("cannot read ", path));
  std::string text(static_cast<size_t>(kMaxConfigFileBytes) + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad()) return absl::NotFoundError(StrCat("cannot read ", path));
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > static_cast<size_t>(kMaxConfigFileBytes)) {
    return absl::InvalidArgumentError(StrCat(path, " is larger than ", kMaxConfigFileBytes, " bytes"));
  }
  return text;
}

std::string Cell(std::string_view text) {
  return absl::StrReplaceAll(ToAbsl(text), {{"|", "\\|"}, {"\n", " "}});
}

}  // namespace

absl::StatusOr<absl::Duration> ParseDurationSetting(std::string_view text) {
  absl::Duration value;
  if (!absl::ParseDuration(ToAbsl(text), &value) || value == absl::InfiniteDuration() ||
      value == -absl::InfiniteDuration()) {
    return absl::InvalidArgumentError("must be a duration like 250ms, 15s or 1m30s");
  }
  return value;
}

absl::StatusOr<int64_t> ParseBytesSetting(std::string_view text) {
  const absl::Status bad =
      absl::InvalidArgumentError("must be a number of bytes like 4096, 512KiB, 8MiB or 2GiB");
  int64_t unit = 1;
  for (const auto& [suffix, size] :
       {std::pair<std::string_view, int64_t>{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}}) {
    if (EndsWith(text, suffix)) {
      unit = size;
      text.remove_suffix(suffix.size());
      break;
    }
  }
  int64_t value = 0;
  if (!ParseInteger(text, &value) || value < 0 || value > std::numeric_limits<int64_t>::max() / unit)
    return bad;
  return value * unit;
}

ConfigTable::ConfigTable(std::string program, std::string summary, std::string version)
    : program_(std::move(program)), summary_(std::move(summary)), version_(std::move(version)) {}

void ConfigTable::Section(std::string title) { section_ = std::move(title); }

ConfigTable::Setting& ConfigTable::Add(std::string name, std::string type, std::string default_value,
                                       std::string help) {
  const bool reserved = std::find(std::begin(kReserved), std::end(kReserved), name) != std::end(kReserved);
  const bool taken =
      std::any_of(settings_.begin(), settings_.end(), [&](const Setting& s) { return s.name == name; });
  if (reserved || taken) {
    std::fprintf(stderr, "setting %s is declared twice\n", name.c_str());
    std::abort();
  }
  Setting setting;
  setting.name = std::move(name);
  setting.section = section_;
  setting.type = std::move(type);
  setting.current = default_value;
  setting.default_value = std::move(default_value);
  setting.help = std::move(help);
  settings_.push_back(std::move(setting));
  return settings_.back();
}

void ConfigTable::AddString(std::string name, std::string* value, std::string help) {
  Add(std::move(name), "text", *value, std::move(help)).parse =
      [value](const std::string& text) -> absl::StatusOr<Setter> { return Setter([=] { *value = text; }); };
}

void ConfigTable::AddSecret(std::string name, std::string* value, std::string help) {
  Setting& setting = Add(name, "secret text", "", help);
  setting.secret = true;
  setting.parse = [value](const std::string& text) -> absl::StatusOr<Setter> {
    return Setter([=] { *value = text; });
  };
  Setting& file =
      Add(StrCat(name, "-file"), "file name", "", StrCat("A file that holds ", name, " (instead of it)."));
  file.parse = [value](const std::string& path) -> absl::StatusOr<Setter> {
    DROVER_ASSIGN_OR_RETURN(std::string text, ReadWholeFile(path));
    const size_t end = text.find_last_not_of("\r\n");
    text.resize(end == std::string::npos ? 0 : end + 1);
    return Setter([=] { *value = text; });
  };
}

void ConfigTable::AddChoice(std::string name, std::string* value, std::vector<std::string> choices,
                            std::string help) {
  const std::string list = absl::StrJoin(choices, ", ");
  Add(std::move(name), StrCat("one of ", list), *value, std::move(help)).parse =
      [=, choices = std::move(choices)](const std::string& text) -> absl::StatusOr<Setter> {
    if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
      return absl::InvalidArgumentError(StrCat("must be one of ", list));
    }
    return Setter([=] { *value = text; });
  };
}

void ConfigTable::AddBool(std::string name, bool* value, std::string help) {
  Setting& setting = Add(std::move(name), "true or false", *value ? "true" : "false", std::move(help));
  setting.flag = true;
  setting.parse = [value](const std::string& text) -> absl::StatusOr<Setter> {
    if (text != "true" && text != "false") return absl::InvalidArgumentError("must be true or false");
    return Setter([value, on = text == "true"] { *value = on; });
  };
}

void ConfigTable::AddInt64(std::string name, int64_t value, int64_t min, int64_t max, std::string help,
                           std::function<void(int64_t)> set) {
  Add(std::move(name), StrCat("integer, ", min, " to ", max), StrCat(value), std::move(help)).parse =
      [=](const std::string& text) -> absl::StatusOr<Setter> {
    int64_t parsed = 0;
    if (!ParseInteger(text, &parsed))
      return absl::InvalidArgumentError(StrCat("must be an integer, ", min, " to ", max));
    if (parsed < min || parsed > max) return OutOfRange(StrCat(min), StrCat(max));
    return Setter([=] { set(parsed); });
  };
}

void ConfigTable::AddDouble(std::string name, double* value, double min, double max, std::string help) {
  Add(std::move(name), StrCat("number, ", DoubleText(min), " to ", DoubleText(max)), DoubleText(*value),
      std::move(help))
      .parse = [=](const std::string& text) -> absl::StatusOr<Setter> {
    double parsed = 0;
    if (!absl::SimpleAtod(text, &parsed) || std::isnan(parsed))
      return absl::InvalidArgumentError("must be a number");
    if (parsed < min || parsed > max) return OutOfRange(DoubleText(min), DoubleText(max));
    return Setter([=] { *value = parsed; });
  };
}

void ConfigTable::AddDuration(std::string name, absl::Duration* value, absl::Duration min, absl::Duration max,
                              std::string help) {
  const std::string from = absl::FormatDuration(min);
  const std::string to = absl::FormatDuration(max);
  Add(std::move(name), StrCat("duration, ", from, " to ", to), absl::FormatDuration(*value), std::move(help))
      .parse = [=](const std::string& text) -> absl::StatusOr<Setter> {
    DROVER_ASSIGN_OR_RETURN(const absl::Duration parsed, ParseDurationSetting(text));
    if (parsed < min || parsed > max) return OutOfRange(from, to);
    return Setter([=] { *value = parsed; });
  };
}

void ConfigTable::AddBytes(std::string name, int64_t* value, int64_t min, int64_t max, std::string help) {
  Add(std::move(name), StrCat("bytes, ", BytesText(min), " to ", BytesText(max)), BytesText(*value),
      std::move(help))
      .parse = [=](const std::string& text) -> absl::StatusOr<Setter> {
    DROVER_ASSIGN_OR_RETURN(const int64_t parsed, ParseBytesSetting(text));
    if (parsed < min || parsed > max) return OutOfRange(BytesText(min), BytesText(max));
    return Setter([=] { *value = parsed; });
  };
}

void ConfigTable::AddList(std::string name, std::vector<std::string>* value, std::string help) {
  Add(std::move(name), "list, separated by commas", absl::StrJoin(*value, ","), std::move(help)).parse =
      [value](const std::string& text) -> absl::StatusOr<Setter> {
    std::vector<std::string> parts;
    if (!text.empty()) {
      for (const std::string_view part : Split(text, ',')) {
        if (StripWhitespace(part).empty()) return absl::InvalidArgumentError("must not have empty elements");
        parts.emplace_back(StripWhitespace(part));
      }
    }
    return Setter([value, parts = std::move(parts)] { *value = parts; });
  };
}

void ConfigTable::AddCommand(std::string name, std::string help) {
  commands_.push_back({std::move(name), std::move(help)});
}

void ConfigTable::AddCheck(std::function<absl::Status()> check) { checks_.push_back(std::move(check)); }

absl::Status ConfigTable::ReadFile(const std::string& path, std::vector<std::optional<Given>>& given) const {
  DROVER_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(path));
  const auto bad = [&](std::string_view what) {
    return absl::InvalidArgumentError(StrCat(path, ": ", what));
  };
  try {
    const YAML::Node root = YAML::Load(text);
    if (root.IsNull()) return absl::OkStatus();
    if (!root.IsMap()) return bad("must be a map from settings to values");
    std::vector<std::string> problems;
    std::set<std::string> seen;
    for (const auto& entry : root) {
      if (!entry.first.IsScalar()) return bad("a key must be the name of a setting");
      const std::string key = entry.first.Scalar();
      const std::string where = StrCat("line ", entry.first.Mark().line + 1, ": ", key);
      const auto it =
          std::find_if(settings_.begin(), settings_.end(), [&](const Setting& s) { return s.name == key; });
      if (it == settings_.end()) {
        problems.push_back(StrCat(where, ": no such setting"));
        continue;
      }
      if (!seen.insert(key).second) {
        problems.push_back(StrCat(where, ": given twice"));
        continue;
      }
      std::string value;
      if (entry.second.IsScalar()) {
        value = entry.second.Scalar();
      } else if (entry.second.IsSequence()) {
        std::vector<std::string> parts;
        for (const auto& part : entry.second) parts.push_back(part.as<std::string>());
        value = absl::StrJoin(parts, ",");
      } else {
        problems.push_back(StrCat(where, ": must be a single value or a list"));
        continue;
      }
      given[static_cast<size_t>(it - settings_.begin())] = Given{value, StrCat("file ", path)};
    }
    if (!problems.empty()) return bad(absl::StrJoin(problems, "; "));
  } catch (const YAML::Exception& error) {
    return bad(error.what());
  }
  return absl::OkStatus();
}

absl::StatusOr<ConfigTable::Result> ConfigTable::Parse(int argc, const char* const* argv,
                                                       const Environment& environment) {
  CLI::App app(summary_, program_);
  app.set_help_flag("");
  bool help = false;
  bool markdown = false;
  bool version = false;
  bool print = false;
  std::string config_path;
  app.add_flag("-h,--help", help);
  app.add_flag("--help-markdown", markdown);
  app.add_flag("--version", version);
  app.add_flag("--print-config", print);
  CLI::Option* config_option = app.add_option("--config", config_path)->take_last();
  // By pointer, as CLI11 keeps references to them.
  std::vector<std::unique_ptr<std::string>> texts;
  std::vector<CLI::Option*> options;
  for (const Setting& setting : settings_) {
    texts.push_back(std::make_unique<std::string>());
    const std::string flag = StrCat("--", setting.name);
    options.push_back(setting.flag ? app.add_flag(flag, *texts.back()) : app.add_option(flag, *texts.back()));
    options.back()->take_last();
  }
  for (const Command& command : commands_) app.add_subcommand(command.name, command.help)->fallthrough();
  app.require_subcommand(0, 1);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Error& error) {
    return absl::InvalidArgumentError(StrCat(std::string(error.what()), "; see --help"));
  }
  if (help) return Result{"", Help()};
  if (markdown) return Result{"", Markdown()};
  if (version) return Result{"", StrCat(program_, " ", version_, "\n")};

  // Last wins here: file, then environment, then flag.
  std::vector<std::optional<Given>> given(settings_.size());
  if (config_option->count() == 0) config_path = environment(EnvironmentName("config")).value_or("");
  if (!config_path.empty()) DROVER_RETURN_IF_ERROR(ReadFile(config_path, given));
  for (size_t i = 0; i < settings_.size(); ++i) {
    const std::string name = EnvironmentName(settings_[i].name);
    if (std::optional<std::string> value = environment(name); value.has_value()) {
      given[i] = Given{*std::move(value), StrCat("environment ", name)};
    }
    if (options[i]->count() > 0) given[i] = Given{*texts[i], StrCat("flag --", settings_[i].name)};
  }

  std::vector<std::string> problems;
  std::vector<Setter> setters;
  for (size_t i = 0; i < settings_.size(); ++i) {
    if (!given[i].has_value()) continue;
    Setting& setting = settings_[i];
    if (setting.secret && given[i + 1].has_value()) {
      problems.push_back(StrCat("give only one of ", setting.name, " and ", setting.name, "-file"));
      continue;
    }
    absl::StatusOr<Setter> setter = setting.parse(given[i]->text);
    if (!setter.ok()) {
      const std::string got = setting.secret ? "" : StrCat(", got \"", given[i]->text, "\"");
      problems.push_back(
          StrCat(setting.name, ": ", FromAbsl(setter.status().message()), got, " (", given[i]->origin, ")"));
      continue;
    }
    setters.push_back(*std::move(setter));
  }
  if (!problems.empty()) return absl::InvalidArgumentError(absl::StrJoin(problems, "\n"));
  for (size_t i = 0; i < settings_.size(); ++i) {
    const bool shown = given[i].has_value() && !settings_[i].secret;
    settings_[i].current = shown ? given[i]->text : settings_[i].default_value;
    settings_[i].origin = given[i].has_value() ? given[i]->origin : "default";
  }
  for (const Setter& setter : setters) setter();
  for (const auto& check : checks_) DROVER_RETURN_IF_ERROR(check());
  Result result;
  for (const CLI::App* command : app.get_subcommands()) result.command = command->get_name();
  if (print) result.text = Effective();
  return result;
}

std::string ConfigTable::ParseOrExit(int argc, const char* const* argv) {
  const auto result = Parse(argc, argv, [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  });
  if (!result.ok()) {
    const std::string message(result.status().message());
    std::fprintf(stderr, "%s: %s\n", program_.c_str(), message.c_str());
    std::exit(kExitUsage);
  }
  if (result->text.has_value()) {
    std::fwrite(result->text->data(), 1, result->text->size(), stdout);
    std::exit(0);
  }
  return result->command;
}

std::string ConfigTable::Markdown() const {
  std::string out;
  const std::string* section = nullptr;
  for (const Setting& setting : settings_) {
    if (section == nullptr || *section != setting.section) {
      if (!setting.section.empty())
        StrAppend(&out, section == nullptr ? "" : "\n", "### ", setting.section, "\n\n");
      out +=
          "| setting | environment | type and range | default | meaning |\n| --- | --- | --- | --- | --- |\n";
      section = &setting.section;
    }
    const std::string shown =
        setting.default_value.empty() ? "" : StrCat("`", Cell(setting.default_value), "`");
    StrAppend(&out, "| `", setting.name, "` | `", EnvironmentName(setting.name), "` | ", Cell(setting.type),
              " | ", shown, " | ", Cell(setting.help), " |\n");
  }
  return out;
}

std::string ConfigTable::Help() const {
  std::string out =
      StrCat(summary_, "\n\nUsage: ", program_, " [FLAGS]", commands_.empty() ? "" : " [COMMAND]", "\n");
  if (!commands_.empty()) {
    out += "\nCommands:\n";
    for (const Command& command : commands_)
      StrAppend(&out, "  ", command.name, "\n      ", command.help, "\n");
  }
  const std::string* section = nullptr;
  for (const Setting& setting : settings_) {
    if (section == nullptr || *section != setting.section) {
      StrAppend(&out, "\n", setting.section.empty() ? "Settings" : setting.section, ":\n");
      section = &setting.section;
    }
    StrAppend(&out, "  --", setting.name, "  (", setting.type,
              setting.default_value.empty() ? "" : StrCat("; default ", setting.default_value), ")\n      ",
              setting.help, "\n");
  }
  StrAppend(
      &out, "\nAlways:\n  --config FILE\n      A YAML file: one flat map from settings to values.\n",
      "  --help, --version, --help-markdown\n",
      "  --print-config\n      Print the effective settings and where each comes from, and exit.\n",
      "\nA setting's value comes from its flag, else from the environment (--db-pool is DROVER_DB_POOL),\n",
      "else from the file, else it is the default.\n");
  return out;
}

std::string ConfigTable::Effective() const {
  std::string out;
  for (const Setting& setting : settings_) {
    const std::string shown = !setting.secret               ? setting.current
                              : setting.origin == "default" ? "(not set)"
                                                            : "(set)";
    StrAppend(&out, setting.name, ": ", shown, "  # ", setting.origin, "\n");
  }
  return out;
}

}  // namespace drover

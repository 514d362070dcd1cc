// The commands, options and texts of `drover` as plain data: what completion and the manual page are made
// from. cli/commands.cc makes it from the very objects that parse the command line and print the help.
#ifndef DROVER_CLI_COMMAND_TREE_H_
#define DROVER_CLI_COMMAND_TREE_H_

#include <string>
#include <string_view>
#include <vector>

namespace drover::cli {

// What words stand for a value.
enum class ValueKind { kText, kFile, kJobId, kChoice };

// An option, or a positional argument (no names).
struct CommandOption {
  std::vector<std::string> names;  // "-o", "--output"; short ones first
  std::string value;               // name of the value, as JOB; empty: takes none
  ValueKind kind = ValueKind::kText;
  std::vector<std::string> choices;  // of a kChoice
  std::string help;
  std::string default_value;  // empty: none
  std::string group;          // heading under which it stands; empty: none
  bool required = false;
  bool list = false;  // a kChoice of several, separated by commas
};

struct CommandNode {
  std::string name;
  std::string help;
  std::string footer;  // examples and exit codes, lines of at most 110 columns
  std::vector<CommandOption> options;
  std::vector<CommandOption> positionals;
  std::vector<CommandNode> commands;
};

}  // namespace drover::cli

#endif  // DROVER_CLI_COMMAND_TREE_H_

// The command line of `drover` (docs/cli.md): parses, calls, prints.
#ifndef DROVER_CLI_COMMANDS_H_
#define DROVER_CLI_COMMANDS_H_

#include <string>

#include "cli/exit_code.h"

namespace drover::cli {

// Runs one command. Results go to standard output, progress, notes and errors to standard error; reads
// DROVER_SERVER.
ExitCode Run(int argc, const char* const* argv, const std::string& version);

}  // namespace drover::cli

#endif  // DROVER_CLI_COMMANDS_H_

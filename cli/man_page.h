// The manual page drover(1), made from the table of commands.
#ifndef DROVER_CLI_MAN_PAGE_H_
#define DROVER_CLI_MAN_PAGE_H_

#include <string>
#include <string_view>

#include "cli/command_tree.h"

namespace drover::cli {

// The page as roff with the macros of man(7).
std::string ManPage(const CommandNode& root, std::string_view version);

}  // namespace drover::cli

#endif  // DROVER_CLI_MAN_PAGE_H_

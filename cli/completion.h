// Shell completion. The scripts for bash and zsh are thin: they hand the words of the line to
// `drover complete-words`, which answers from the table of commands, so that they never fall behind the
// program.
#ifndef DROVER_CLI_COMPLETION_H_
#define DROVER_CLI_COMPLETION_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/command_tree.h"

namespace drover::cli {

struct Candidate {
  std::string word;
  std::string help;  // may be empty
};

// A line that asks the shell for file names.
inline constexpr char kFilesCandidate[] = ":files";

// What `words` (the line without "drover"; the last one is being written, perhaps empty) may go on with.
// `job_ids` is asked for ids of jobs, newest first, where one is expected; it is told what --server said so
// far (empty: nothing).
std::vector<Candidate> Complete(
    const CommandNode& root, const std::vector<std::string>& words,
    const std::function<std::vector<Candidate>(const std::string& server)>& job_ids);

// "word<TAB>help", a line each; no other tab or line end.
std::string CandidateLines(const std::vector<Candidate>& candidates);

// The script for `bash` or `zsh`; empty for any other name.
std::string CompletionScript(std::string_view shell);

}  // namespace drover::cli

#endif  // DROVER_CLI_COMPLETION_H_

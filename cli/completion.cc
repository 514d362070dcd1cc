#include "cli/completion.h"

#include <algorithm>

#include "cli/output.h"
#include "common/strings/strings.h"

namespace drover::cli {
namespace {

// Splits the line where the cursor is by itself, since bash cuts words at ':' and '='; hands back to bash
// only what stands behind the last of those.
constexpr char kBash[] = R"(# bash completion for drover; load it with: source <(drover completion bash)
_drover() {
  local line=${COMP_LINE:0:COMP_POINT} words word help current
  COMPREPLY=()
  read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=('')
  current=${words[-1]}
  while IFS=$'\t' read -r word help; do
    if [[ $word == :files ]]; then
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "${current#--*=}")
      return
    fi
    COMPREPLY+=("$word")
  done < <("${words[0]}" complete-words -- "${words[@]:1}" 2>/dev/null)
  local cut=${current%"${current##*[=:]}"}
  [[ -z $cut ]] || COMPREPLY=("${COMPREPLY[@]#"$cut"}")
}
complete -F _drover drover
)";

constexpr char kZsh[] = R"(#compdef drover
# zsh completion for drover; load it with: source <(drover completion zsh)
# or save it as _drover in a folder of $fpath.
_drover() {
  local word help
  local -a candidates
  while IFS=$'\t' read -r word help; do
    if [[ $word == :files ]]; then
      compset -P '--*='
      _files
      return
    fi
    candidates+=("${word//:/\\:}${help:+:$help}")
  done < <("${words[1]}" complete-words -- "${(@)words[2,CURRENT]}" 2>/dev/null)
  _describe drover candidates
}
if [[ ${funcstack[1]} == _drover ]]; then _drover "$@"; else compdef _drover drover; fi
)";

const CommandOption* FindOption(const std::vector<const CommandNode*>& path, std::string_view name) {
  for (const CommandNode* node : path) {
    for (const CommandOption& option : node->options) {
      if (std::find(option.names.begin(), option.names.end(), name) != option.names.end()) return &option;
    }
  }
  return nullptr;
}

// What has been understood of the words before the one that is written.
struct Line {
  std::vector<const CommandNode*> path;  // from the root to the command
  size_t positionals = 0;
  const CommandOption* open = nullptr;  // an option that waits for its value
  std::string server;
};

void TakeWord(const std::string& word, Line& line) {
  const CommandNode& command = *line.path.back();
  if (line.open != nullptr) {
    if (line.open->names.back() == "--server") line.server = word;
    line.open = nullptr;
    return;
  }
  if (StartsWith(word, "-") && word.size() > 1) {
    const size_t equals = word.find('=');
    const CommandOption* option = FindOption(line.path, std::string_view(word).substr(0, equals));
    if (option == nullptr || option->value.empty()) return;
    if (equals == std::string::npos) {
      line.open = option;
    } else if (option->names.back() == "--server") {
      line.server = word.substr(equals + 1);
    }
    return;
  }
  for (const CommandNode& inner : command.commands) {
    if (inner.name != word) continue;
    line.path.push_back(&inner);
    return;
  }
  ++line.positionals;
}

class Completer {
 public:
  Completer(std::string_view current,
            const std::function<std::vector<Candidate>(const std::string&)>& job_ids, std::string server)
      : current_(current), job_ids_(job_ids), server_(std::move(server)) {}

  // `prefix` stands before the value in the same word.
  void Value(const CommandOption& option, std::string_view prefix) {
    switch (option.kind) {
      case ValueKind::kText: return;
      case ValueKind::kFile: candidates_.push_back({kFilesCandidate, ""}); return;
      case ValueKind::kJobId:
        for (const Candidate& job : job_ids_(server_)) Offer(StrCat(prefix, job.word), job.help);
        return;
      case ValueKind::kChoice: {
        std::string before(prefix);
        const std::string_view typed = current_.substr(prefix.size());
        const size_t comma = option.list ? typed.rfind(',') : std::string_view::npos;
        if (comma != std::string_view::npos) before += typed.substr(0, comma + 1);
        for (const std::string& choice : option.choices) Offer(before + choice, "");
        return;
      }
    }
  }

  void Offer(std::string word, std::string help) {
    if (StartsWith(word, current_)) candidates_.push_back({std::move(word), std::move(help)});
  }

  std::vector<Candidate> Take() { return std::move(candidates_); }

 private:
  const std::string_view current_;
  const std::function<std::vector<Candidate>(const std::string&)>& job_ids_;
  const std::string server_;
  std::vector<Candidate> candidates_;
};

}  // namespace

std::vector<Candidate> Complete(const CommandNode& root, const std::vector<std::string>& words,
                                const std::function<std::vector<Candidate>(const std::string&)>& job_ids) {
  if (words.empty()) return {};
  Line line{.path = {&root}};
  for (size_t i = 0; i + 1 < words.size(); ++i) TakeWord(words[i], line);
  const std::string& current = words.back();
  const CommandNode& command = *line.path.back();
  Completer completer(current, job_ids, line.server);
  if (line.open != nullptr) {
    completer.Value(*line.open, "");
  } else if (const size_t equals = current.find('=');
             StartsWith(current, "--") && equals != std::string::npos) {
    const CommandOption* option = FindOption(line.path, std::string_view(current).substr(0, equals));
    if (option != nullptr && !option->value.empty())
      completer.Value(*option, std::string_view(current).substr(0, equals + 1));
  } else if (StartsWith(current, "-")) {
    // The command's own first, then those of all commands.
    for (auto node = line.path.rbegin(); node != line.path.rend(); ++node) {
      for (const CommandOption& option : (*node)->options) {
        completer.Offer(option.names.back(), option.help);
      }
    }
  } else {
    for (const CommandNode& inner : command.commands) completer.Offer(inner.name, inner.help);
    if (line.positionals < command.positionals.size())
      completer.Value(command.positionals[line.positionals], "");
  }
  return completer.Take();
}

std::string CandidateLines(const std::vector<Candidate>& candidates) {
  std::string out;
  for (const Candidate& candidate : candidates) {
    StrAppend(&out, Printable(candidate.word), candidate.help.empty() ? "" : "\t", Printable(candidate.help),
              "\n");
  }
  return out;
}

std::string CompletionScript(std::string_view shell) {
  if (shell == "bash") return kBash;
  return shell == "zsh" ? kZsh : "";
}

}  // namespace drover::cli

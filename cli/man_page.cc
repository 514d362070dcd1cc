#include "cli/man_page.h"

#include "absl/strings/ascii.h"
#include "common/strings/strings.h"

namespace drover::cli {
namespace {

// Text in which roff sees nothing of its own: no escapes, no requests at line starts, minus signs that can be
// copied.
std::string Plain(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool ellipsis = StartsWith(text.substr(i), "…");
    const bool at_start = i == 0 || text[i - 1] == '\n';
    if (at_start && (c == '.' || c == '\'' || ellipsis)) out += "\\&";
    if (ellipsis) {
      out += "...";
      i += 2;
    } else if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  return out;
}

std::string Bold(std::string_view text) { return StrCat("\\fB", Plain(text), "\\fR"); }
std::string Italic(std::string_view text) { return StrCat("\\fI", Plain(text), "\\fR"); }

class Page {
 public:
  void Heading(std::string_view kind, std::string_view text) {
    StrAppend(&out_, ".", kind, " \"", Plain(text), "\"\n");
  }

  void Option(const CommandOption& option) {
    out_ += ".TP\n";
    for (size_t i = 0; i < option.names.size(); ++i)
      StrAppend(&out_, i == 0 ? "" : ", ", Bold(option.names[i]));
    if (!option.value.empty()) StrAppend(&out_, option.names.empty() ? "" : " ", Italic(option.value));
    StrAppend(&out_, "\n", Plain(option.help));
    if (!option.choices.empty()) {
      out_ += " (";
      for (size_t i = 0; i < option.choices.size(); ++i)
        StrAppend(&out_, i == 0 ? "" : ", ", Plain(option.choices[i]));
      out_ += ")";
    }
    if (!option.default_value.empty()) StrAppend(&out_, "; default ", Plain(option.default_value));
    out_ += ".\n";
  }

  // Its options under the headings of their groups, in order.
  void Options(const CommandNode& command) {
    std::string group;
    for (const CommandOption& option : command.options) {
      if (option.group != group) {
        group = option.group;
        StrAppend(&out_, ".PP\n", Plain(group), ":\n");
      }
      Option(option);
    }
  }

  // Lines as they are, apart from what stands before unless that is a heading.
  void Lines(std::string_view text, bool after_heading = false) {
    while (EndsWith(text, "\n")) text.remove_suffix(1);
    if (!text.empty()) StrAppend(&out_, after_heading ? "" : ".sp\n", ".nf\n", Plain(text), "\n.fi\n");
  }

  // Each command that can be run, under its whole name.
  void Commands(const CommandNode& node, const std::string& name) {
    for (const CommandNode& inner : node.commands) {
      const std::string full = StrCat(name, " ", inner.name);
      if (!inner.commands.empty()) {
        Commands(inner, full);
        continue;
      }
      std::string line = full;
      for (const CommandOption& positional : inner.positionals) StrAppend(&line, " ", positional.value);
      if (!inner.options.empty()) line += " [option ...]";
      Heading("SS", line);
      StrAppend(&out_, Plain(inner.help), ".\n");
      for (const CommandOption& positional : inner.positionals) Option(positional);
      Options(inner);
      Lines(inner.footer);
    }
  }

  void Text(std::string_view roff) { out_ += roff; }
  std::string Take() { return std::move(out_); }

 private:
  std::string out_;
};

}  // namespace

std::string ManPage(const CommandNode& root, std::string_view version) {
  Page page;
  page.Text(StrCat(".\\\" Made by `drover man`; do not edit.\n.TH DROVER 1 \"\" \"Drover ", Plain(version),
                   "\" \"User Commands\"\n"));
  page.Heading("SH", "NAME");
  page.Text("drover \\- command line of Drover, batch operations over objects in S3\\-compatible stores\n");
  page.Heading("SH", "SYNOPSIS");
  page.Text(StrCat(Bold("drover"), " [", Italic("option"), " ...] ", Italic("command"), " [",
                   Italic("argument"), " ...]\n"));
  page.Heading("SH", "DESCRIPTION");
  page.Text(StrCat(Plain(root.help), "\n"));
  page.Heading("SH", "OPTIONS");
  page.Text("Of every command; they may stand before or after it.\n");
  page.Options(root);
  page.Heading("SH", "COMMANDS");
  page.Commands(root, "drover");
  page.Heading("SH", "EXAMPLES AND EXIT CODES");
  page.Lines(root.footer, true);
  return page.Take();
}

}  // namespace drover::cli

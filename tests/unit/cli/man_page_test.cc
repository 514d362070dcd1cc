#include "cli/man_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace drover::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(ManPageTest, NamesEveryCommandInFullWithItsOptions) {
  CommandNode get{.name = "get", .help = "Show one job"};
  get.positionals.push_back({.value = "JOB", .help = "The job's id"});
  get.options.push_back({.names = {"-f", "--full"}, .help = "All of it"});
  get.options.push_back(
      {.names = {"--as"}, .value = "TEXT", .choices = {"a", "b"}, .help = "How", .default_value = "a"});
  CommandNode job{.name = "job", .help = "Jobs", .commands = {get}};
  const std::string page = ManPage({.name = "drover", .help = "Top", .commands = {job}}, "1.2");
  EXPECT_THAT(page, AllOf(HasSubstr(".SS \"drover job get JOB [option ...]\"\nShow one job.\n"),
                          HasSubstr("\\fB\\-f\\fR, \\fB\\-\\-full\\fR\nAll of it.\n"),
                          HasSubstr("\\fB\\-\\-as\\fR \\fITEXT\\fR\nHow (a, b); default a.\n")));
}

TEST(ManPageTest, TextIsNeverTakenForRoff) {
  const std::string page =
      ManPage({.name = "drover", .help = ".TH x", .footer = "'br\n.so /etc/passwd\n… a\\fBb\n"}, "1");
  EXPECT_THAT(page, AllOf(HasSubstr("\\&.TH x"), HasSubstr("\\&'br\n\\&.so /etc"),
                          HasSubstr("\\&... a\\efBb"), Not(HasSubstr("\n.so"))));
}

}  // namespace
}  // namespace drover::cli

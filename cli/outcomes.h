// What `drover job outcomes` and `drover job summary` print. Pure functions of their arguments; as in
// output.h, no control character of a server's reaches a terminal.
#ifndef DROVER_CLI_OUTCOMES_H_
#define DROVER_CLI_OUTCOMES_H_

#include <string>

#include "drover/v1/outcome.pb.h"

namespace drover::cli {

// The titles over outcome lines. Outcomes are printed as they arrive, however many there will be, so the
// columns have fixed widths and the object and the message, which may be long, come last.
std::string OutcomeHeader();
// A line for an outcome.
std::string OutcomeLine(const v1::RecordedOutcome& outcome);
// The task as a line of a CSV manifest, with its version if it has one: what failed can be run again.
std::string ManifestLine(const v1::ManifestTask& task);

// A row for each kind of failure, with its share of all failed tasks, and its examples beneath each other.
std::string SummaryTable(const v1::FailureSummary& summary);

}  // namespace drover::cli

#endif  // DROVER_CLI_OUTCOMES_H_

// The JSON schema of job files, for editors.
#ifndef DROVER_CLI_JOB_SCHEMA_H_
#define DROVER_CLI_JOB_SCHEMA_H_

#include <string>

namespace drover::cli {

// JSON Schema (draft 7, the one that yaml-language-server knows best) of one document of a job file: the
// fields of Job that a client gives under their names in the .proto files, what they may hold, and the .proto
// files' own comments. Indented by two blanks, with a line end.
std::string JobSchema();

}  // namespace drover::cli

#endif  // DROVER_CLI_JOB_SCHEMA_H_

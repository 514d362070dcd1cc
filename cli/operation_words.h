// What the command line calls the operations that it has flags for.
#ifndef DROVER_CLI_OPERATION_WORDS_H_
#define DROVER_CLI_OPERATION_WORDS_H_

#include <string>
#include <string_view>

#include "drover/v1/operation.pb.h"

namespace drover::cli {

// E.g. "put-tags"; "" for an operation that goes by its name in the API only.
std::string_view OperationWord(v1::Operation::KindCase kind);

// All of them, for people: "noop, put-tags, … or head".
std::string OperationWords();

}  // namespace drover::cli

#endif  // DROVER_CLI_OPERATION_WORDS_H_

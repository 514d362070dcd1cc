#include <cstdio>

#include "cli/commands.h"

int main(int argc, char** argv) { return static_cast<int>(drover::cli::Run(argc, argv, DROVER_VERSION)); }

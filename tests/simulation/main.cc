// drover-simulate: runs of the simulation, and one of them again with a trace (docs/internals/simulation.md).
//
//   drover-simulate --seeds 1-1000            many; the first failing one ends it, with the command to replay
//   it drover-simulate --seeds 17-17 --trace     one, told step by step drover-simulate --profile streams
//   any, streams, outages or late (options.h) drover-simulate --planted no-fence        with a fault planted
//   in the protocol
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "tests/simulation/options.h"

namespace drover::simulation {
namespace {

int Usage() {
  std::fprintf(
      stderr,
      "usage: drover-simulate [--seeds FIRST-LAST] [--profile any|streams|outages|late] [--planted NAME] "
      "[--trace]\n");
  return 2;
}

int Main(int argc, char** argv) {
  uint64_t first = 1;
  uint64_t last = 100;
  std::string profile = "any";
  std::string planted_name = "none";
  bool trace = false;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--trace") {
      trace = true;
      continue;
    }
    if (++i == argc) return Usage();
    if (flag == "--seeds") {
      const std::vector<std::string> parts = absl::StrSplit(argv[i], '-');
      if (parts.size() > 2 || !absl::SimpleAtoi(parts.front(), &first) ||
          !absl::SimpleAtoi(parts.back(), &last))
        return Usage();
    } else if (flag == "--profile") {
      profile = argv[i];
    } else if (flag == "--planted") {
      planted_name = argv[i];
    } else {
      return Usage();
    }
  }
  Planted planted = Planted::kNone;
  bool known = false;
  for (const PlantedName& each : PlantedNames()) {
    if (each.name != planted_name) continue;
    planted = each.planted;
    known = true;
  }
  const auto found = std::ranges::find(Profiles(), profile, &Profile::name);
  if (!known || found == Profiles().end()) return Usage();

  int64_t steps = 0;
  int64_t tasks = 0;
  int64_t requests = 0;
  for (uint64_t seed = first; seed <= last; ++seed) {
    Options options = found->options(seed);
    options.planted = planted;
    const Outcome outcome = Simulate(seed, options, trace);
    steps += outcome.steps;
    tasks += outcome.tasks;
    requests += outcome.requests;
    if (outcome.failure.empty()) continue;
    std::printf(
        "seed %llu FAILED %s\nreplay: drover-simulate --seeds %llu-%llu --profile %s --planted %s --trace\n",
        static_cast<unsigned long long>(seed), outcome.failure.c_str(), static_cast<unsigned long long>(seed),
        static_cast<unsigned long long>(seed), profile.c_str(), planted_name.c_str());
    return 1;
  }
  std::printf("%llu runs passed: %lld steps, %lld tasks, %lld requests\n",
              static_cast<unsigned long long>(last - first + 1), static_cast<long long>(steps),
              static_cast<long long>(tasks), static_cast<long long>(requests));
  return 0;
}

}  // namespace
}  // namespace drover::simulation

int main(int argc, char** argv) { return drover::simulation::Main(argc, argv); }

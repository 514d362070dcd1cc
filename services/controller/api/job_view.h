// A stored job as drover.v1.Job.
#ifndef DROVER_SERVICES_CONTROLLER_API_JOB_VIEW_H_
#define DROVER_SERVICES_CONTROLLER_API_JOB_VIEW_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "drover/v1/job.pb.h"
#include "services/controller/storage/storage.h"

namespace drover {

// The job as clients see it: the request as it was stored, with every field that only the service sets;
// `waiting_for` is what AttachedWorkers says of it. INTERNAL if the stored request can't be read.
absl::StatusOr<v1::Job> ViewJob(const JobRecord& record, std::string waiting_for);

// The etag of a job at `version`.
std::string JobEtag(int64_t version);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_API_JOB_VIEW_H_

// What the API's tests share: a clock to be set, stores, requests that are right, errors taken apart.
#ifndef DROVER_TESTS_UNIT_SERVICES_CONTROLLER_API_TESTING_H_
#define DROVER_TESTS_UNIT_SERVICES_CONTROLLER_API_TESTING_H_

#include <grpcpp/support/status.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/clock/clock.h"
#include "common/objectstore/stores.h"
#include "common/status/status.h"
#include "drover/v1/job_service.pb.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "services/controller/storage/storage.h"
#include "tests/support/reason.h"

namespace drover {

// Time stands still until it is advanced.
class FakeClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::FromUnixSeconds(1'700'000'000) + Elapsed(); }
  absl::Duration Elapsed() const override { return absl::Nanoseconds(elapsed_.load()); }
  void Advance(absl::Duration by) { elapsed_ += absl::ToInt64Nanoseconds(by); }

 private:
  std::atomic<int64_t> elapsed_ = 0;
};

class FakeRandom final : public Random {
 public:
  uint64_t Next() override { return state_ += 0x9e3779b97f4a7c15u; }

 private:
  std::atomic<uint64_t> state_ = 42;
};

// Stores "main" and "other" of kind s3, "local" of kind file.
inline Stores TestStores() {
  auto stores = Stores::Parse(R"(
stores:
  - name: main
    kind: s3
    endpoint: http://127.0.0.1:9000
    credentials: {anonymous: true}
  - name: other
    kind: s3
    endpoint: http://127.0.0.1:9001
    credentials: {anonymous: true}
  - name: local
    kind: file
    root: /tmp
)",
                              "stores.yaml");
  if (!stores.ok()) abort();
  return *std::move(stores);
}

// A tagging job over a manifest in S3, with a report.
inline v1::CreateJobRequest GoodRequest() {
  v1::CreateJobRequest request;
  request.set_request_id("request-1");
  v1::Job& job = *request.mutable_job();
  job.mutable_operation()->set_store("main");
  v1::Tag* tag = job.mutable_operation()->mutable_put_object_tagging()->add_tags();
  tag->set_key("project");
  tag->set_value("drover");
  v1::CsvManifest& csv = *job.mutable_manifest()->mutable_csv();
  csv.mutable_location()->set_store("main");
  csv.mutable_location()->set_bucket("manifests");
  csv.mutable_location()->set_key("list.csv");
  csv.set_etag("\"d41d8cd98f00b204e9800998ecf8427e\"");
  job.mutable_report()->set_store("local");
  job.mutable_report()->set_bucket("reports");
  job.set_priority(10);
  job.set_description("tags everything");
  return request;
}

// A stored job as CreateJob would have left it.
inline JobRecord GoodRecord(const JobId& job_id, lifecycle::State state = lifecycle::State::kNew) {
  JobRecord record;
  record.spec.job_id = job_id;
  record.spec.request = GoodRequest().job().SerializeAsString();
  record.spec.operation = "put_object_tagging";
  record.spec.creator = "anonymous";
  record.snapshot.state = state;
  record.priority = 10;
  record.version = 1;
  return record;
}

// The id of test job number `n` (0 to 9999): ids sort by number.
inline JobId TestJobId(int n) {
  std::string digits = std::to_string(n);
  digits.insert(0, 4 - digits.size(), '0');
  return "01890000-" + digits + "-7000-8000-000000000000";
}

// The paths of the fields that a status made here names.
inline std::vector<std::string> FieldPaths(const absl::Status& status) {
  std::vector<std::string> paths;
  const std::optional<ErrorDetails> details = GetErrorDetails(status);
  if (!details.has_value()) return paths;
  for (const auto& [path, description] : details->fields) paths.push_back(path);
  return paths;
}

// The details of a gRPC status as a client decodes them.
struct WireError {
  google::rpc::Status status;
  google::rpc::ErrorInfo info;
  google::rpc::BadRequest bad_request;
  std::optional<google::rpc::RetryInfo> retry;

  std::map<std::string, std::string> fields() const {
    std::map<std::string, std::string> out;
    for (const auto& violation : bad_request.field_violations())
      out[violation.field()] = violation.description();
    return out;
  }
};

inline WireError Decode(const grpc::Status& status) {
  WireError out;
  if (!out.status.ParseFromString(status.error_details())) return out;
  for (const google::protobuf::Any& any : out.status.details()) {
    if (any.Is<google::rpc::ErrorInfo>()) any.UnpackTo(&out.info);
    if (any.Is<google::rpc::BadRequest>()) any.UnpackTo(&out.bad_request);
    if (any.Is<google::rpc::RetryInfo>()) any.UnpackTo(&out.retry.emplace());
  }
  return out;
}

}  // namespace drover

#endif  // DROVER_TESTS_UNIT_SERVICES_CONTROLLER_API_TESTING_H_

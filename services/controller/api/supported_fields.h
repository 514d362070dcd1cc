// What of CreateJobRequest this release carries out: one list. Everything else that a request sets is refused
// by name, so that nothing is ever accepted and ignored.
//
// The API is laid out for the whole of Drover (proto/drover/v1); a release that starts to carry a field out
// adds it to the list, with its validation. A test walks the descriptor and holds every field against the
// list.
#ifndef DROVER_SERVICES_CONTROLLER_API_SUPPORTED_FIELDS_H_
#define DROVER_SERVICES_CONTROLLER_API_SUPPORTED_FIELDS_H_

#include <span>
#include <string_view>

#include "absl/status/status.h"

namespace google::protobuf {
class Message;
}  // namespace google::protobuf

namespace drover {

// A field that is carried out.
struct SupportedField {
  // From CreateJobRequest, by proto names, e.g. "job.operation.put_object_tagging.tags". It stands for
  // everything beneath it. What lies above it (e.g. "job.operation") may be set for its sake.
  std::string_view path;
  // For an enum of which not every value is carried out: the values that are, beside the zero value.
  std::span<const std::string_view> values = {};
};

// The list.
std::span<const SupportedField> SupportedCreateJobFields();

// Whether `path` is carried out: listed, beneath a listed field, or above one.
bool IsSupportedCreateJobField(std::string_view path);

// Checks a CreateJobRequest, in this order, and names all the fields of the first class that has any:
//   INVALID_ARGUMENT (UNKNOWN_FIELD)        a field number or enum value that this release does not know
//   INVALID_ARGUMENT (OUTPUT_ONLY_FIELD)    a field that only the service sets
//   UNIMPLEMENTED    (FIELD_NOT_SUPPORTED)  a field or enum value that this release does not carry out
absl::Status CheckCreateJobFields(const google::protobuf::Message& request);

// The first of these checks, for any other request.
absl::Status CheckNoUnknownFields(const google::protobuf::Message& request);

}  // namespace drover

#endif  // DROVER_SERVICES_CONTROLLER_API_SUPPORTED_FIELDS_H_

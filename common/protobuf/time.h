// Abseil's times as protobuf's well-known types, to the nanosecond.
#ifndef DROVER_COMMON_PROTOBUF_TIME_H_
#define DROVER_COMMON_PROTOBUF_TIME_H_

#include "absl/time/time.h"

namespace google::protobuf {
class Duration;
class Timestamp;
}  // namespace google::protobuf

namespace drover {

// `duration` is finite; nanos get the sign of seconds.
void SetDuration(absl::Duration duration, google::protobuf::Duration* out);
// `time` is finite; nanos count forward, also before 1970.
void SetTimestamp(absl::Time time, google::protobuf::Timestamp* out);

}  // namespace drover

#endif  // DROVER_COMMON_PROTOBUF_TIME_H_

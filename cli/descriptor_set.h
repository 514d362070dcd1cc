// drover/v1/job.proto and all that it imports as a google.protobuf.FileDescriptorSet with comments; the
// source is made by the build (cmake/EmbedFile.cmake).
#ifndef DROVER_CLI_DESCRIPTOR_SET_H_
#define DROVER_CLI_DESCRIPTOR_SET_H_

#include <cstddef>

namespace drover::cli {

extern const unsigned char kDescriptorSet[];
extern const size_t kDescriptorSetSize;

}  // namespace drover::cli

#endif  // DROVER_CLI_DESCRIPTOR_SET_H_

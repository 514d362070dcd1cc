#include "services/worker/operations/registry.h"

#include "drover/v1/operation.pb.h"
#include "services/worker/operations/change_object_tagging.h"
#include "services/worker/operations/copy_object.h"
#include "services/worker/operations/delete_object.h"
#include "services/worker/operations/delete_object_tagging.h"
#include "services/worker/operations/head_object.h"
#include "services/worker/operations/no_op.h"
#include "services/worker/operations/put_object_tagging.h"
#include "services/worker/operations/undelete_object.h"

namespace drover {

absl::Span<const OperationType> OperationTypes() {
  static constexpr OperationType kTypes[] = {
      {"no_op", 1, v1::Operation::kNoOp, MakeNoOp},
      {"put_object_tagging", 1, v1::Operation::kPutObjectTagging, MakePutObjectTagging},
      {"copy_object", 2, v1::Operation::kCopyObject, MakeCopyObject},
      {"delete_object_tagging", 1, v1::Operation::kDeleteObjectTagging, MakeDeleteObjectTagging},
      {"change_object_tagging", 1, v1::Operation::kChangeObjectTagging, MakeChangeObjectTagging},
      {"delete_object", 1, v1::Operation::kDeleteObject, MakeDeleteObject},
      {"undelete_object", 1, v1::Operation::kUndeleteObject, MakeUndeleteObject},
      {"head_object", 1, v1::Operation::kHeadObject, MakeHeadObject},
  };
  return kTypes;
}

const OperationType* FindOperationType(const v1::Operation& operation) {
  for (const OperationType& type : OperationTypes()) {
    if (type.kind == operation.kind_case()) return &type;
  }
  return nullptr;
}

}  // namespace drover

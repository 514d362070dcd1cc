// delete_object: deletes each object, or the version that the manifest names.
//
// Requests      for a group of up to 1,000 objects of one bucket: POST /bucket?delete with a <Delete>
// document and
//               its Content-MD5, and the answer names each object. A group of one object, a key that XML
//               can't carry, an object that the answer leaves out, the objects of a group that is refused as
//               a whole, and every object where the store does not know such requests: DELETE
//               /bucket/key[?versionId=v].
// Parameters    bypass_governance_retention: sends x-amz-bypass-governance-retention.
// Transient     by common/objectstore/transient.h, for each object by its own error. An answer that can't be
// read is
//               MalformedResponse. Only the objects concerned are tried again.
// Twice         without versions and with version ids the same as once: what is not there counts as deleted.
// On a
//               versioned bucket without version ids each time adds a delete marker. Tasks of one group that
//               name the same object share one request.
// Rights        s3:DeleteObject; with version ids s3:DeleteObjectVersion; s3:BypassGovernanceRetention where
// it is
//               asked for.
// Permanent     AccessDenied (also object lock), NoSuchBucket.
#include "services/worker/operations/delete_object.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/log/log.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "drover/v1/operation.pb.h"
#include "services/worker/operations/parameters.h"
#include "services/worker/operations/store_answers.h"

namespace drover {
namespace {

// Each object is answered with its key once more, escaped, and with a message if it failed.
constexpr size_t kMaxAnswer = 8 * kMaxDeleteDocument;

constexpr std::string_view kMarkerMade = "A delete marker was made.";
constexpr std::string_view kNothingThere = "There was nothing to delete.";

// The store can't delete in groups, now or ever.
bool KnowsNoGroups(const S3Response& answer) {
  return answer.status == 501 || answer.status == 405 || answer.error_code == "NotImplemented" ||
         answer.error_code == "MethodNotAllowed";
}

// The store refused the group as a group: its objects may still be deleted one by one, or be refused one by
// one, each for a reason of its own.
bool RefusedTheGroup(const S3Response& answer) {
  if (ClassifyAnswer(answer) != Transience::kPermanent) return false;
  switch (answer.status) {
    case 400:
    case 411:
    case 413: return true;
    case 403: return answer.error_code == "AccessDenied";  // rights may be given by prefix
    case 404: return answer.error_code != "NoSuchBucket";  // no such path
    default: return KnowsNoGroups(answer);
  }
}

bool IsNothingThere(std::string_view code) { return code == "NoSuchKey" || code == "NoSuchVersion"; }

Attempt NothingThere(int status) {
  Attempt attempt;
  attempt.outcome.http_status = static_cast<uint16_t>(status);
  attempt.outcome.message = kNothingThere;
  return attempt;
}

// One group on its way: the objects that it names, each once, and which of them are not settled yet.
class Group {
 public:
  Group(const TaskGroup& tasks, GroupResult& result) : tasks_(tasks), result_(result), order_(tasks.size()) {
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::sort(order_.begin(), order_.end(), [this](size_t a, size_t b) { return Less(Name(a), Name(b)); });
    for (size_t i = 0; i < order_.size(); ++i) {
      if (i == 0 || Name(order_[i]) != Name(order_[i - 1])) objects_.push_back({Name(order_[i]), i});
    }
  }

  size_t size() const { return objects_.size(); }
  const ObjectName& name(size_t object) const { return objects_[object].name; }
  bool settled(size_t object) const { return objects_[object].settled; }

  // The object of that name; size() if there is none. `version_id` may be one that the store added by itself.
  size_t Find(std::string_view key, std::string_view version_id) const {
    const ObjectName name{key, version_id};
    const auto at = std::lower_bound(objects_.begin(), objects_.end(), name,
                                     [](const Object& o, const ObjectName& n) { return Less(o.name, n); });
    if (at != objects_.end() && at->name == name) return static_cast<size_t>(at - objects_.begin());
    return version_id.empty() ? size() : Find(key, {});
  }

  // What became of the object, for each task that names it; nullopt: it was deleted in the default way.
  void Settle(size_t object, const std::optional<Attempt>& attempt) {
    objects_[object].settled = true;
    if (!attempt.has_value()) return;
    const size_t end = object + 1 < size() ? objects_[object + 1].first : order_.size();
    for (size_t i = objects_[object].first; i < end; ++i) result_.Set(order_[i], *attempt);
  }

  void SettleRest(const Attempt& attempt) {
    for (size_t object = 0; object < size(); ++object) {
      if (!settled(object)) Settle(object, attempt);
    }
  }

 private:
  struct Object {
    ObjectName name;
    size_t first;  // of its tasks, in order_
    bool settled = false;
  };

  static bool Less(const ObjectName& a, const ObjectName& b) {
    return a.key != b.key ? a.key < b.key : a.version_id < b.version_id;
  }
  ObjectName Name(size_t task) const { return {tasks_[task].key, tasks_[task].version_id}; }

  const TaskGroup& tasks_;
  GroupResult& result_;
  std::vector<size_t> order_;  // tasks by name
  std::vector<Object> objects_;
};

class DeleteObject final : public Operation {
 public:
  DeleteObject(S3Client& store, const Clock& clock, bool bypass_governance)
      : store_(store), clock_(clock), bypass_governance_(bypass_governance) {}

  Limits limits() const override { return {.max_tasks = knows_groups_ ? kMaxDeleteGroup : 1}; }
  std::string_view store() const override { return store_.config().name; }

  boost::asio::awaitable<void> Run(const TaskGroup& tasks, OperationContext& context,
                                   GroupResult& result) override {
    Group group(tasks, result);
    const std::string bucket(tasks[0].bucket);
    bool going = true;
    if (group.size() > 1) {
      for (size_t next = 0; going && knows_groups_ && next < group.size();) {
        std::vector<size_t> members;
        std::string document = Document(group, next, members);
        if (!members.empty())
          going = co_await DeleteMany(bucket, std::move(document), members, context, group);
      }
    }
    for (size_t object = 0; going && object < group.size(); ++object) {
      if (!group.settled(object)) going = co_await DeleteOne(bucket, object, context, group);
    }
    if (!going) group.SettleRest(CancelledAttempt());
  }

 private:
  // The document of the objects from `next` on, as many as fit. Moves `next` on; those that XML can't carry
  // are passed over.
  static std::string Document(const Group& group, size_t& next, std::vector<size_t>& members) {
    std::string document(kDeleteXmlBegin);
    for (; next < group.size(); ++next) {
      const ObjectName& name = group.name(next);
      if (!FitsXml(name.key) || !FitsXml(name.version_id)) continue;
      const std::string object = DeleteXmlObject(name);
      if (!members.empty() && document.size() + object.size() > kMaxDeleteDocument) break;
      document.append(object);
      members.push_back(next);
    }
    document.append(kDeleteXmlEnd);
    return document;
  }

  void AddHeaders(S3Request& request) const {
    if (bypass_governance_) request.headers.Add("x-amz-bypass-governance-retention", "true");
  }

  // One request for many objects. What is not settled by it is to be deleted one by one. False: cancelled.
  boost::asio::awaitable<bool> DeleteMany(const std::string& bucket, std::string document,
                                          const std::vector<size_t>& members, OperationContext& context,
                                          Group& group) {
    S3Request request;
    request.method = "POST";
    request.bucket = bucket;
    request.query.emplace_back("delete", "");
    request.body = std::move(document);
    request.content_md5 = true;
    request.max_response_body = kMaxAnswer;
    AddHeaders(request);
    const absl::StatusOr<S3Response> answer = co_await context.Send(store_, std::move(request));
    if (answer.ok() && !answer->ok() && RefusedTheGroup(*answer)) {
      if (KnowsNoGroups(*answer) && std::exchange(knows_groups_, false)) {
        LogInfo("delete_object.one_by_one",
                {{"store", store()}, {"status", answer->status}, {"code", answer->error_code}});
      }
      co_return true;
    }
    std::optional<Attempt> attempt;
    std::optional<std::vector<DeleteResultEntry>> entries;
    if (!answer.ok() || !answer->ok()) {
      attempt = AttemptOf(answer, clock_.Now());
    } else if (entries = ParseDeleteResult(answer->body); !entries.has_value()) {
      attempt = UnreadableAttempt(*answer, "The answer is no whole DeleteResult.");
    }
    if (attempt.has_value()) {
      if (attempt->end == Attempt::End::kCancelled) co_return false;
      for (const size_t object : members) group.Settle(object, attempt);
    } else {
      SettleByEntries(*entries, answer->status, group);
    }
    co_return true;
  }

  // Objects that the answer does not name stay as they are, and names that were not asked for mean nothing.
  static void SettleByEntries(const std::vector<DeleteResultEntry>& entries, int status, Group& group) {
    // A store that says both of an object has not deleted it for sure: failures first.
    for (const bool deleted : {false, true}) {
      for (const DeleteResultEntry& entry : entries) {
        if (entry.deleted != deleted) continue;
        const size_t object = group.Find(entry.key, entry.version_id);
        if (object == group.size() || group.settled(object)) continue;
        group.Settle(object, AttemptOfEntry(entry, status, group.name(object)));
      }
    }
  }

  static std::optional<Attempt> AttemptOfEntry(const DeleteResultEntry& entry, int status,
                                               const ObjectName& name) {
    if (entry.status != 0) status = entry.status;
    if (!entry.deleted && IsNothingThere(entry.code)) return NothingThere(status);
    if (!entry.deleted) {
      Attempt attempt = FailedAttempt(entry.code, entry.message);
      attempt.outcome.http_status = static_cast<uint16_t>(status);
      attempt.transience = ClassifyAnswer(status, entry.code);
      if (attempt.transience != Transience::kPermanent) attempt.end = Attempt::End::kTransient;
      return attempt;
    }
    if (!entry.delete_marker || !name.version_id.empty()) return std::nullopt;
    Attempt attempt;
    attempt.outcome.message = kMarkerMade;
    return attempt;
  }

  // One request for one object. False: cancelled.
  boost::asio::awaitable<bool> DeleteOne(const std::string& bucket, size_t object, OperationContext& context,
                                         Group& group) {
    const ObjectName& name = group.name(object);
    const Task task{bucket, name.key, name.version_id};
    S3Request request = ObjectRequest("DELETE", task);
    AddHeaders(request);
    const absl::StatusOr<S3Response> answer = co_await context.Send(store_, std::move(request));
    std::optional<Attempt> attempt = AttemptOf(answer, clock_.Now());
    if (attempt.has_value() && attempt->end == Attempt::End::kCancelled) co_return false;
    if (answer.ok() && IsNothingThere(answer->error_code)) {
      attempt = NothingThere(answer->status);
    } else if (answer.ok() && answer->ok() && name.version_id.empty() &&
               answer->headers.Get("x-amz-delete-marker") == "true") {
      if (!attempt.has_value()) attempt.emplace();
      attempt->outcome.message = kMarkerMade;
    }
    group.Settle(object, attempt);
    co_return true;
  }

  S3Client& store_;
  const Clock& clock_;
  const bool bypass_governance_;
  bool knows_groups_ = true;  // until the store says otherwise
};

}  // namespace

absl::StatusOr<std::unique_ptr<Operation>> MakeDeleteObject(const v1::Operation& parameters,
                                                            const OperationEnvironment& env) {
  DROVER_ASSIGN_OR_RETURN(S3Client * store, FindStore(parameters, env));
  v1::DeleteObject rest = parameters.delete_object();
  rest.clear_bypass_governance_retention();
  DROVER_RETURN_IF_ERROR(RefuseRest(rest, "delete_object"));
  return std::make_unique<DeleteObject>(*store, env.clock,
                                        parameters.delete_object().bypass_governance_retention());
}

}  // namespace drover

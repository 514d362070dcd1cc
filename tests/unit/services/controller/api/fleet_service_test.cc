#include "services/controller/api/fleet_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "drover/v1/worker_service.pb.h"
#include "tests/unit/services/controller/api/fake_storage.h"
#include "tests/unit/services/controller/api/testing.h"

namespace drover {
namespace {

using ::testing::ElementsAre;

SessionInfo Session(int n, const Stores& stores) {
  v1::Hello hello;
  hello.add_operations()->set_name("copy_object");
  hello.add_operations()->set_name("no_op");
  const auto add_store = [&](const std::string& name, const std::string& fingerprint) {
    v1::StoreSupport* store = hello.add_stores();
    store->set_name(name);
    store->set_fingerprint(fingerprint);
  };
  add_store("main", stores.Find("main")->Fingerprint());
  add_store("other", "0000");
  add_store("its-own", "1111");
  (*hello.mutable_labels())["zone"] = "a";

  SessionInfo session;
  session.session_id = TestJobId(n);
  session.name = "worker-1";
  session.version = "0.1.0";
  session.controller = "controller-a";
  session.attachment = 3;
  session.hello = hello.SerializeAsString();
  session.draining = true;
  session.created = absl::FromUnixSeconds(100);
  session.expires = absl::FromUnixSeconds(115);
  session.leases = 12;
  return session;
}

class FleetTest : public ::testing::Test {
 protected:
  absl::StatusOr<v1::ListWorkersResponse> List(const v1::ListWorkersRequest& request = {},
                                               const AuthorizeFn& authorize = Authorize) {
    return ListWorkers(storage_, stores_, authorize, {"anonymous"}, request);
  }
  const Stores stores_ = TestStores();
  FakeStorage storage_;
};

TEST_F(FleetTest, ShowsAWorkerWithTheStoresThatAreNotOurs) {
  storage_.PutSession(Session(1, stores_));
  const auto response = List();
  ASSERT_TRUE(response.ok()) << response.status();
  ASSERT_EQ(response->workers_size(), 1);
  const v1::Worker& worker = response->workers(0);
  EXPECT_EQ(worker.session_id(), TestJobId(1));
  EXPECT_EQ(worker.name(), "worker-1");
  EXPECT_EQ(worker.controller(), "controller-a");
  EXPECT_EQ(worker.attachment(), 3);
  EXPECT_EQ(worker.create_time().seconds(), 100);
  EXPECT_EQ(worker.expire_time().seconds(), 115);
  EXPECT_THAT(worker.operations(), ElementsAre("copy_object", "no_op"));
  EXPECT_THAT(worker.stores(), ElementsAre("main", "other", "its-own"));
  EXPECT_THAT(worker.mismatched_stores(), ElementsAre("other"));  // one that we don't have is no mismatch
  EXPECT_EQ(worker.labels().at("zone"), "a");
  EXPECT_TRUE(worker.draining());
  EXPECT_EQ(worker.leases(), 12);
}

TEST_F(FleetTest, PagesThroughAllWorkersBySession) {
  for (int i = 0; i < 5; ++i) storage_.PutSession(Session(i, stores_));
  v1::ListWorkersRequest request;
  request.set_page_size(2);
  std::vector<std::string> ids;
  do {
    const auto response = List(request);
    ASSERT_TRUE(response.ok()) << response.status();
    for (const v1::Worker& worker : response->workers()) ids.push_back(worker.session_id());
    request.set_page_token(response->next_page_token());
  } while (!request.page_token().empty());
  ASSERT_EQ(ids.size(), 5u);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(ids[i], TestJobId(i));
}

TEST_F(FleetTest, RefusesBadPagesAndCallersWhoMayNot) {
  v1::ListWorkersRequest request;
  request.set_page_size(1001);
  EXPECT_THAT(FieldPaths(List(request).status()), ElementsAre("page_size"));
  request.set_page_size(1);
  request.set_page_token("garbage");
  EXPECT_EQ(ReasonOf(List(request).status()), "PAGE_TOKEN_INVALID");
  const auto deny = [](const Caller&, Action action, std::string_view) {
    EXPECT_EQ(action, Action::kListWorkers);
    return Error(absl::StatusCode::kPermissionDenied, "PERMISSION_DENIED", "no");
  };
  EXPECT_EQ(List({}, deny).status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(storage_.all_calls(), 0);
}

}  // namespace
}  // namespace drover

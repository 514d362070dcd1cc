#include "common/objectstore/stores.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <type_traits>

#include "absl/strings/str_format.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kSecret[] = "wJalrXUtnFEMI/K7MDENG";

class StoresTest : public ::testing::Test {
 protected:
  void SetUp() override {
    setenv("TEST_ACCESS", "AKID", 1);
    setenv("TEST_SECRET", kSecret, 1);
    unsetenv("TEST_UNSET");
    directory_ = StrCat(::testing::TempDir(), "/drover-stores-", getpid());
    ASSERT_EQ(std::system(("mkdir -p " + directory_).c_str()), 0);
  }
  void TearDown() override { EXPECT_EQ(std::system(("rm -r " + directory_).c_str()), 0); }

  void Write(const std::string& name, const std::string& text) {
    std::ofstream(directory_ + "/" + name) << text;
  }
  static std::string ErrorOf(const std::string& yaml) {
    const auto stores = Stores::Parse(yaml, "conf/stores.yaml");
    EXPECT_FALSE(stores.ok()) << yaml;
    EXPECT_EQ(GetErrorDetails(stores.status()).value_or(ErrorDetails()).reason, "STORES_INVALID");
    return std::string(stores.status().message());
  }

  std::string directory_;
};

constexpr char kS3[] = R"(stores:
  - name: archive
    kind: s3
    endpoint: https://S3.example:9000/
    credentials: {access_key_env: TEST_ACCESS, secret_key_env: TEST_SECRET}
)";

TEST_F(StoresTest, ReadsBothKindsWithTheirDefaults) {
  const auto stores =
      Stores::Parse(std::string(kS3) + "  - {name: local, kind: file, root: /srv/x/}\n", "s.yaml");
  ASSERT_TRUE(stores.ok()) << stores.status();
  ASSERT_EQ(stores->list().size(), 2u);
  const StoreConfig* s3 = stores->Find("archive");
  ASSERT_NE(s3, nullptr);
  EXPECT_EQ(s3->kind, StoreKind::kS3);
  EXPECT_EQ(s3->endpoint, "https://S3.example:9000/");
  EXPECT_TRUE(s3->origin.tls);
  EXPECT_EQ(s3->origin.host, "s3.example");
  EXPECT_EQ(s3->origin.port, 9000);
  EXPECT_EQ(s3->region, "us-east-1");
  EXPECT_TRUE(s3->path_style);
  EXPECT_EQ(s3->credentials.access_key_id, "AKID");
  EXPECT_EQ(s3->credentials.secret_access_key.Reveal(), kSecret);
  EXPECT_TRUE(s3->credentials.session_token.empty());
  EXPECT_EQ(s3->max_connections, 64);
  EXPECT_EQ(s3->connect_timeout, absl::Seconds(10));
  EXPECT_EQ(s3->idle_timeout, absl::Seconds(30));
  EXPECT_EQ(s3->request_timeout, absl::Minutes(5));
  const StoreConfig* file = stores->Find("local");
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(file->kind, StoreKind::kFile);
  EXPECT_EQ(file->root, "/srv/x");
  EXPECT_EQ(stores->Find("other"), nullptr);
}

TEST_F(StoresTest, ReadsEveryFieldAndPassesThemToTheHttpClient) {
  Write("ca.pem", "x");
  Write("credentials",
        "# a comment\n[default]\naws_access_key_id = AKID2\nsecret_access_key: \"s3cr3t=:\"\nsession_token = "
        "t\n");
  Write("stores.yaml", R"(stores:
  - name: a_b-1
    kind: s3
    endpoint: http://127.0.0.1:7480
    region: eu-central-1
    path_style: true
    credentials: {file: credentials}
    ca_file: ca.pem
    max_connections: 7
    timeouts: {connect: 1s, idle: 2s500ms, request: 1m}
)");
  const auto stores = Stores::Load(directory_ + "/stores.yaml");
  ASSERT_TRUE(stores.ok()) << stores.status();
  const StoreConfig& store = stores->list()[0];
  EXPECT_EQ(store.credentials.access_key_id, "AKID2");
  EXPECT_EQ(store.credentials.secret_access_key.Reveal(), "s3cr3t=:");
  EXPECT_EQ(store.credentials.session_token.Reveal(), "t");
  const HttpClientOptions options = HttpOptionsFor(store);
  EXPECT_EQ(options.max_connections, 7);
  EXPECT_EQ(options.connect_timeout, absl::Seconds(1));
  EXPECT_EQ(options.idle_timeout, absl::Milliseconds(2500));
  EXPECT_EQ(options.total_timeout, absl::Minutes(1));
  EXPECT_EQ(options.ca_file, directory_ + "/ca.pem");
}

TEST_F(StoresTest, NamesFileLineAndFieldOfEveryMistake) {
  const std::string error = ErrorOf(R"(stores:
  - name: Archive
    kind: s3
    endpoint: ftp://x
    max_connections: 0
    timeouts: {idle: soon}
    credentials: {access_key_env: TEST_ACCESS, secret_key_env: TEST_SECRET}
    retries: 3
)");
  EXPECT_THAT(error, HasSubstr("conf/stores.yaml:2: stores[0].name: "));
  EXPECT_THAT(error, HasSubstr("conf/stores.yaml:4: stores[0].endpoint: "));
  EXPECT_THAT(error, HasSubstr("conf/stores.yaml:5: stores[0].max_connections: must be 1 to 4096"));
  EXPECT_THAT(error, HasSubstr("conf/stores.yaml:6: stores[0].timeouts.idle: "));
  EXPECT_THAT(error, HasSubstr("conf/stores.yaml:8: stores[0].retries: is not known here"));
}

TEST_F(StoresTest, RefusesWhatIsNoStore) {
  const auto s3 = [](const std::string& fields) {
    return "stores:\n  - {name: a, kind: s3, endpoint: http://h, credentials: {anonymous: true}, " + fields +
           "}\n";
  };
  EXPECT_THAT(ErrorOf(""), HasSubstr("must be a mapping"));
  EXPECT_THAT(ErrorOf("stores: 3"), HasSubstr("must be a list"));
  EXPECT_THAT(ErrorOf("stores: [\n"), HasSubstr("not YAML"));
  EXPECT_THAT(ErrorOf("stores: []\nstore: []"), HasSubstr("stores.yaml:2: store: is not known"));
  EXPECT_THAT(ErrorOf("stores: [7]"), HasSubstr("stores[0]: must be a mapping"));
  EXPECT_THAT(ErrorOf("stores: [{kind: file, root: /x}]"), HasSubstr("stores[0].name"));
  EXPECT_THAT(ErrorOf("stores: [{name: -a, kind: file, root: /x}]"), HasSubstr("stores[0].name"));
  EXPECT_THAT(ErrorOf("stores: [{name: a, kind: tape}]"), HasSubstr("must be s3 or file"));
  EXPECT_THAT(ErrorOf("stores: [{name: a, kind: file, root: x}]"), HasSubstr("absolute path"));
  EXPECT_THAT(ErrorOf("stores: [{name: a, kind: file}]"), HasSubstr("stores[0].root"));
  EXPECT_THAT(ErrorOf("stores: [{name: a, kind: file, root: /x, region: y}]"), HasSubstr("kind s3"));
  EXPECT_THAT(ErrorOf("stores: [{name: a, kind: file, root: /x}, {name: a, kind: file, root: /y}]"),
              HasSubstr("stores[1].name: another store has this name"));
  EXPECT_THAT(ErrorOf("stores: [{name: a, name: b, kind: file, root: /x}]"), HasSubstr("is there twice"));
  EXPECT_THAT(ErrorOf("stores: [{name: a, kind: s3, endpoint: http://h}]"),
              HasSubstr("credentials: is missing"));
  EXPECT_THAT(ErrorOf("stores: [{name: a, kind: s3, credentials: {anonymous: true}}]"),
              HasSubstr("endpoint: is missing"));
  EXPECT_THAT(ErrorOf(s3("root: /x")), HasSubstr("kind file"));
  EXPECT_THAT(ErrorOf(s3("path_style: maybe")), HasSubstr("must be true or false"));
  EXPECT_THAT(ErrorOf(s3("region: 'a b'")), HasSubstr("region"));
  EXPECT_THAT(ErrorOf(s3("ca_file: /no/such/file")), HasSubstr("/no/such/file"));
  EXPECT_THAT(ErrorOf("stores: [{name: a, kind: s3, endpoint: 'http://127.0.0.1:1', path_style: false, "
                      "credentials: {anonymous: true}}]"),
              HasSubstr("path_style"));
}

TEST_F(StoresTest, TakesNoSecretFromTheFileItself) {
  for (const char* field : {"secret_access_key", "secret_key", "access_key", "session_token", "password"}) {
    const std::string inside = absl::StrFormat(
        "stores: [{name: a, kind: s3, endpoint: http://h, credentials: {%s: %s}}]", field, kSecret);
    EXPECT_THAT(ErrorOf(inside), AllOf(HasSubstr("secrets do not belong"), Not(HasSubstr(kSecret)))) << field;
    const std::string beside =
        absl::StrFormat("stores: [{name: a, kind: s3, endpoint: http://h, %s: %s}]", field, kSecret);
    EXPECT_THAT(ErrorOf(beside), AllOf(HasSubstr("secrets do not belong"), Not(HasSubstr(kSecret)))) << field;
  }
}

TEST_F(StoresTest, SaysWhichCredentialIsMissingButNeverShowsOne) {
  const auto with = [](const std::string& credentials) {
    return "stores:\n  - {name: a, kind: s3, endpoint: http://h, credentials: " + credentials + "}\n";
  };
  EXPECT_THAT(ErrorOf(with("{}")), HasSubstr("stores[0].credentials"));
  EXPECT_THAT(ErrorOf(with("{access_key_env: TEST_ACCESS}")), HasSubstr("secret_key_env: is missing"));
  EXPECT_THAT(ErrorOf(with("{access_key_env: TEST_ACCESS, secret_key_env: TEST_UNSET}")),
              HasSubstr("secret_key_env: the environment variable"));
  // A secret pasted where a variable's name belongs.
  EXPECT_THAT(ErrorOf(with(StrCat("{access_key_env: TEST_ACCESS, secret_key_env: ", kSecret, "}"))),
              Not(HasSubstr(kSecret)));
  EXPECT_THAT(ErrorOf(with("{file: /no/such/file}")), HasSubstr("/no/such/file"));
  EXPECT_THAT(ErrorOf(with("{anonymous: true, access_key_env: TEST_ACCESS, secret_key_env: TEST_SECRET}")),
              HasSubstr("not several"));
  for (const char* text :
       {"", "access_key_id: a", "access_key_id: a\nsecret_access_key: wJalrXUtnFEMI/K7MDENG\nuser: x",
        "wJalrXUtnFEMI/K7MDENG", "[a]\n[b]", "access_key_id: a\naccess_key_id: b"}) {
    Write("credentials", text);
    EXPECT_THAT(ErrorOf(with(StrCat("{file: ", directory_, "/credentials}"))),
                AllOf(HasSubstr("credentials"), Not(HasSubstr(kSecret))))
        << text;
  }
}

TEST_F(StoresTest, ReportsAMissingFileAsSuch) {
  EXPECT_EQ(Stores::Load(directory_ + "/none.yaml").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(StoresTest, FingerprintsWhatMakesAStoreAndNotItsCredentials) {
  const auto one = [](const std::string& changed_from, const std::string& changed_to) {
    std::string yaml = kS3;
    if (!changed_from.empty()) yaml.replace(yaml.find(changed_from), changed_from.size(), changed_to);
    const auto stores = Stores::Parse(yaml, "s.yaml");
    EXPECT_TRUE(stores.ok()) << stores.status();
    return stores.ok() ? stores->list()[0].Fingerprint() : "";
  };
  const std::string base = one("", "");
  EXPECT_EQ(base.size(), 64u);
  EXPECT_EQ(base, one("S3.example:9000/", "s3.example:9000"));
  EXPECT_EQ(base, one("name: archive", "name: other"));
  EXPECT_EQ(base, one("TEST_ACCESS", "TEST_SECRET"));
  EXPECT_EQ(base, one("kind: s3", "kind: s3\n    max_connections: 3"));
  EXPECT_NE(base, one("S3.example", "s4.example"));
  EXPECT_NE(base, one("9000", "9001"));
  EXPECT_NE(base, one("https", "http"));
  EXPECT_NE(base, one("kind: s3", "kind: s3\n    region: eu-west-1"));
  EXPECT_NE(base, one("kind: s3", "kind: s3\n    path_style: false"));
  const auto files = Stores::Parse(
      "stores: [{name: a, kind: file, root: /x}, {name: b, kind: file, root: /x/}, {name: c, kind: file, "
      "root: /y}]",
      "");
  ASSERT_TRUE(files.ok());
  EXPECT_EQ(files->list()[0].Fingerprint(), files->list()[1].Fingerprint());
  EXPECT_NE(files->list()[0].Fingerprint(), files->list()[2].Fingerprint());
}

template <typename T>
concept Printable = requires(std::ostream& out, const T& value) { out << value; };

TEST(SecretTest, CanNotBePrintedOrTakenForAString) {
  static_assert(Printable<std::string>);
  static_assert(!Printable<Secret>);
  static_assert(!std::is_convertible_v<Secret, std::string>);
  static_assert(!std::is_convertible_v<Secret, std::string_view>);
  static_assert(!std::is_convertible_v<std::string, Secret>);
  EXPECT_EQ(Secret("x").Reveal(), "x");
}

}  // namespace
}  // namespace drover

#include "common/objectstore/s3_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "common/status/status.h"
#include "common/strings/strings.h"
#include "tests/support/http/test_server.h"
#include "tests/support/reason.h"

namespace drover {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Peer = TestServer::Peer;

std::string Pattern(size_t size) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + (i * 7 + i / 1000) % 26);
  return text;
}

// A store whose requests go to a scripted server, with short waits.
class S3StoreTest : public ::testing::Test {
 protected:
  std::unique_ptr<ObjectStore> Open(const TestServer& server, ObjectStoreOptions options = {}) {
    StoreConfig config;
    config.name = "test";
    config.origin.host = "127.0.0.1";
    config.origin.port = server.port();
    config.credentials.access_key_id = "AKID";
    config.credentials.secret_access_key = Secret("secret");
    config.idle_timeout = absl::Seconds(2);
    if (options.first_backoff == ObjectStoreOptions().first_backoff) {
      options.first_backoff = absl::Milliseconds(2);
      options.max_retry_time = absl::Milliseconds(500);
    }
    options.max_attempts = 4;
    auto store = OpenS3Store(config, std::move(options), SystemClock(), SystemRandom());
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }
  static absl::StatusOr<std::string> ReadAll(ObjectReader& reader, size_t step = 100000) {
    std::string all;
    std::string buffer(step, '\0');
    while (true) {
      DROVER_ASSIGN_OR_RETURN(const size_t n, reader.Read(buffer.data(), buffer.size()));
      if (n == 0) return all;
      all.append(buffer, 0, n);
    }
  }
  const ObjectRef ref_ = {"bucket", "a key", ""};
};

// Serves `object` as S3 does, ranges and conditions included, but sends at most `cut` bytes per answer.
class ObjectServer {
 public:
  explicit ObjectServer(std::string object, size_t cut = SIZE_MAX) : object_(std::move(object)), cut_(cut) {}
  void operator()(Peer& peer) {
    while (peer.ReadRequest()) {
      if (const std::string match = peer.Header("If-Match"); !match.empty() && match != etag_) {
        peer.Answer(412, "<Error><Code>PreconditionFailed</Code></Error>");
        continue;
      }
      size_t from = 0;
      if (const std::string range = peer.Header("Range"); !range.empty()) from = std::stoul(range.substr(6));
      if (from > 0 && from >= object_.size()) {
        peer.Answer(416, "<Error><Code>InvalidRange</Code></Error>");
        continue;
      }
      const std::string part = object_.substr(from);
      std::string head =
          StrCat("HTTP/1.1 ", from > 0 ? "206 Partial" : "200 OK", "\r\nContent-Length: ", part.size(),
                 "\r\nETag: ", etag_, "\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n");
      if (from > 0) {
        StrAppend(&head, "Content-Range: bytes ", from, "-", object_.size() - 1, "/", object_.size(), "\r\n");
      }
      if (!version_.empty()) StrAppend(&head, "x-amz-version-id: ", version_, "\r\n");
      peer.Send(head + "\r\n");
      if (peer.method() == "HEAD") continue;
      peer.Send(std::string_view(part).substr(0, cut_));
      if (part.size() > cut_) return;  // hangs up in the middle
    }
  }
  std::string object_;
  size_t cut_;
  std::string etag_ = "\"e1\"";
  std::string version_;
};

TEST_F(S3StoreTest, ReadsAnObjectAndItsDescription) {
  ObjectServer object(Pattern(3 << 20));
  TestServer server([&](Peer& peer) { object(peer); });
  const auto store = Open(server);
  const auto head = store->Head(ref_);
  ASSERT_TRUE(head.ok()) << head.status();
  EXPECT_EQ(head->size, 3 << 20);
  EXPECT_EQ(head->etag, "e1");
  EXPECT_EQ(head->modified, absl::FromUnixSeconds(1445412480));
  auto reader = store->Open(ref_, 0, "\"e1\"");
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ((*reader)->info().size, 3 << 20);
  EXPECT_TRUE(ReadAll(**reader).value_or("?") == object.object_);
  EXPECT_EQ((*reader)->Read(nullptr, 0).value_or(1), 0u);
}

TEST_F(S3StoreTest, BeginsAtAnOffset) {
  ObjectServer object(Pattern(1000));
  TestServer server([&](Peer& peer) { object(peer); });
  const auto store = Open(server);
  auto reader = store->Open(ref_, 400, "");
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ((*reader)->info().size, 1000);
  EXPECT_EQ(ReadAll(**reader, 7).value_or("?"), object.object_.substr(400));
  auto at_end = store->Open(ref_, 1000, "e1");
  ASSERT_TRUE(at_end.ok()) << at_end.status();
  EXPECT_EQ(ReadAll(**at_end).value_or("?"), "");
  EXPECT_EQ(store->Open(ref_, 1001, "").status().code(), absl::StatusCode::kOutOfRange);
}

TEST_F(S3StoreTest, ReadsAnEmptyObject) {
  ObjectServer object("");
  TestServer server([&](Peer& peer) { object(peer); });
  const auto store = Open(server);
  auto reader = store->Open(ref_, 0, "");
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(ReadAll(**reader).value_or("?"), "");
}

TEST_F(S3StoreTest, SkipsWhatAServerWithoutRangesSendsTooMuch) {
  TestServer server([&](Peer& peer) {
    while (peer.ReadRequest()) peer.Answer(200, "0123456789", "ETag: \"e\"\r\n");
  });
  const auto store = Open(server);
  auto reader = store->Open(ref_, 4, "");
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(ReadAll(**reader).value_or("?"), "456789");
}

TEST_F(S3StoreTest, ReadsOnWhereAConnectionBroke) {
  ObjectServer object(Pattern(5000000), 700000);
  object.version_ = "v7";
  std::vector<std::string> ranges;
  Mutex mu;
  TestServer server([&](Peer& peer) { object(peer); });
  const auto store = Open(server);
  auto reader = store->Open(ref_, 0, "");
  ASSERT_TRUE(reader.ok()) << reader.status();
  const auto all = ReadAll(**reader);
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_TRUE(*all == object.object_);
  EXPECT_GE(server.requests().size(), 8u);
  // From the second request on it asks for the version that it began with.
  EXPECT_EQ(server.requests()[0], "GET /bucket/a%20key");
  EXPECT_EQ(server.requests()[1], "GET /bucket/a%20key?versionId=v7");
}

TEST_F(S3StoreTest, NoticesThatTheObjectChangedBetweenConnections) {
  ObjectServer object(Pattern(5000000), 700000);
  std::atomic<int> served{0};
  for (const bool ignores_conditions : {false, true}) {
    served = 0;
    TestServer server([&](Peer& peer) {
      ObjectServer mine = object;
      if (served++ > 0) {
        mine.etag_ = "\"e2\"";
        if (ignores_conditions) {
          while (peer.ReadRequest()) peer.Answer(200, mine.object_, "ETag: \"e2\"\r\n");
        }
      }
      mine(peer);
    });
    const auto store = Open(server);
    auto reader = store->Open(ref_, 0, "e1");
    ASSERT_TRUE(reader.ok()) << reader.status();
    const auto all = ReadAll(**reader);
    EXPECT_EQ(ReasonOf(all.status()), "OBJECT_CHANGED");
    char byte;
    EXPECT_EQ(ReasonOf((*reader)->Read(&byte, 1).status()), "OBJECT_CHANGED") << "an error stays";
  }
}

TEST_F(S3StoreTest, GivesUpOnAnObjectThatNeverComes) {
  // It breaks at once, each time: no progress, so patience ends.
  std::atomic<int> served{0};
  TestServer server([&](Peer& peer) {
    if (!peer.ReadRequest()) return;
    if (served++ == 0) {
      peer.Send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"e\"\r\n\r\nabc");
    }
  });
  const auto store = Open(server);
  auto reader = store->Open(ref_, 0, "");
  ASSERT_TRUE(reader.ok()) << reader.status();
  const absl::Duration begin = SystemClock().Elapsed();
  EXPECT_EQ(ReasonOf(ReadAll(**reader).status()), "STORE_UNAVAILABLE");
  EXPECT_GE(SystemClock().Elapsed() - begin, absl::Milliseconds(400));
  EXPECT_GT(served.load(), 4);
}

TEST_F(S3StoreTest, HoldsBackTheServerWhileNobodyReads) {
  constexpr size_t kSize = 64 << 20;
  std::atomic<size_t> sent{0};
  TestServer server([&](Peer& peer) {
    while (peer.ReadRequest()) {
      peer.Send(StrCat("HTTP/1.1 200 OK\r\nContent-Length: ", kSize, "\r\nETag: \"e\"\r\n\r\n"));
      const std::string piece(1 << 16, 'x');
      for (size_t i = 0; i < kSize; i += piece.size()) {
        peer.Send(piece);
        sent += piece.size();
      }
    }
  });
  const auto store = Open(server);
  auto reader = store->Open(ref_, 0, "");
  ASSERT_TRUE(reader.ok()) << reader.status();
  size_t last = SIZE_MAX;
  while (sent != last) {  // until it stands still
    last = sent;
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
  EXPECT_LT(sent, kSize / 2);
  const auto all = ReadAll(**reader, 1 << 20);
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->size(), kSize);
}

TEST_F(S3StoreTest, MayBeLeftInTheMiddleOfReading) {
  ObjectServer object(Pattern(32 << 20));
  TestServer server([&](Peer& peer) { object(peer); });
  const auto store = Open(server);
  for (int i = 0; i < 20; ++i) {
    auto reader = store->Open(ref_, 0, "");
    ASSERT_TRUE(reader.ok()) << reader.status();
    char buffer[1000];
    if (i % 2 == 0) {
      ASSERT_TRUE((*reader)->Read(buffer, sizeof(buffer)).ok());
    }
  }
}

TEST_F(S3StoreTest, TranslatesAnswers) {
  std::string body;
  std::atomic<int> status{0};
  TestServer server([&](Peer& peer) {
    while (peer.ReadRequest()) peer.Answer(status, body);
  });
  const auto store = Open(server);
  const auto put = [&](int answer, const std::string& code) {
    status = answer;
    body = StrCat("<Error><Code>", code, "</Code><Message>said so</Message></Error>");
    return store->Put(ref_, "x", "").status();
  };
  EXPECT_EQ(ReasonOf(put(404, "NoSuchBucket")), "OBJECT_NOT_FOUND");
  EXPECT_EQ(ReasonOf(put(403, "AccessDenied")), "OBJECT_DENIED");
  EXPECT_EQ(ReasonOf(put(412, "PreconditionFailed")), "OBJECT_CHANGED");
  EXPECT_EQ(ReasonOf(put(400, "InvalidArgument")), "STORE_REFUSED");
  EXPECT_EQ(ReasonOf(put(503, "SlowDown")), "STORE_UNAVAILABLE");
  const absl::Status denied = put(403, "SignatureDoesNotMatch");
  const auto details = GetErrorDetails(denied);
  EXPECT_EQ(details->metadata.at("error_code"), "SignatureDoesNotMatch");
  EXPECT_EQ(details->metadata.at("http_status"), "403");
  EXPECT_EQ(details->metadata.at("store"), "test");
  EXPECT_THAT(std::string(denied.message()), HasSubstr("said so"));
  EXPECT_EQ(ReasonOf(store->Put({"b", "", ""}, "x", "").status()), "OBJECT_NAME_INVALID");
}

TEST_F(S3StoreTest, TriesAgainWhatIsTransientAndTellsItsObserver) {
  std::atomic<int> served{0};
  TestServer server([&](Peer& peer) {
    while (peer.ReadRequest()) {
      const int n = served++;
      if (n == 0) {
        peer.Answer(500, "<Error><Code>InternalError</Code></Error>");
      } else if (n == 1) {
        peer.Answer(503, "<Error><Code>SlowDown</Code></Error>");
      } else if (n == 2) {
        return;
      } else {
        peer.Answer(200, "", "ETag: \"x\"\r\n");
      }
    }
  });
  std::vector<std::string> seen;
  ObjectStoreOptions options;
  options.on_request = [&](std::string_view method, int status, absl::Duration, bool retry) {
    seen.push_back(StrCat(method, " ", status, retry ? " retry" : ""));
  };
  const auto store = Open(server, std::move(options));
  const auto info = store->Put(ref_, "hello", "text/plain");
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->etag, "x");
  EXPECT_EQ(info->size, 5);
  // The connection that was dropped without an answer was tried once more by the HTTP client itself.
  EXPECT_THAT(seen, ElementsAre("PUT 500", "PUT 503 retry", "PUT 200 retry"));
}

TEST_F(S3StoreTest, BoundsTheTriesOfTransientAnswers) {
  TestServer server([](Peer& peer) {
    while (peer.ReadRequest()) peer.Answer(500, "<Error><Code>InternalError</Code></Error>");
  });
  const auto store = Open(server);
  EXPECT_EQ(ReasonOf(store->Head(ref_).status()), "STORE_UNAVAILABLE");
  EXPECT_EQ(server.requests().size(), 4u);
}

TEST_F(S3StoreTest, WaitsAsLongAsRetryAfterSays) {
  std::atomic<int> served{0};
  TestServer server([&](Peer& peer) {
    while (peer.ReadRequest()) {
      if (served++ == 0) {
        peer.Answer(503, "", "Retry-After: 1\r\n");
      } else {
        peer.Answer(200, "");
      }
    }
  });
  const auto store = Open(server);
  const absl::Duration begin = SystemClock().Elapsed();
  EXPECT_TRUE(store->Put(ref_, "x", "").ok());
  EXPECT_GE(SystemClock().Elapsed() - begin, absl::Seconds(1));
}

// A multipart upload on the server's side.
class UploadServer {
 public:
  void operator()(Peer& peer) {
    while (peer.ReadHead()) {
      if (!peer.Header("Expect").empty()) peer.Send("HTTP/1.1 100 Continue\r\n\r\n");
      if (!peer.ReadBody()) return;
      const std::string& target = peer.target();
      if (peer.method() == "POST" && target.ends_with("?uploads=")) {
        peer.Answer(
            200, "<InitiateMultipartUploadResult><UploadId>up/1</UploadId></InitiateMultipartUploadResult>");
      } else if (peer.method() == "PUT" && target.find("partNumber=") != target.npos) {
        if (fail_next_part.exchange(false)) {
          peer.Answer(500, "<Error><Code>InternalError</Code></Error>");
          continue;
        }
        MutexLock lock(&mu);
        part_sizes.push_back(peer.body().size());
        data += peer.body();
        peer.Answer(200, "", StrCat("ETag: \"", std::string(31, '0'), part_sizes.size(), "\"\r\n"));
      } else if (peer.method() == "POST") {
        MutexLock lock(&mu);
        completion = peer.body();
        if (lose_completion.exchange(false)) return;
        if (completed.exchange(true)) {
          peer.Answer(404, "<Error><Code>NoSuchUpload</Code></Error>");
        } else {
          peer.Answer(200, complete_body);
        }
      } else if (peer.method() == "HEAD") {
        peer.Send(StrCat("HTTP/1.1 200 OK\r\nContent-Length: ", data.size(), "\r\nETag: \"", head_etag,
                         "\"\r\n\r\n"));
      } else {
        peer.Answer(peer.method() == "DELETE" ? abort_status.load() : 200, "", "ETag: \"put\"\r\n");
      }
    }
  }
  Mutex mu;
  std::vector<size_t> part_sizes;
  std::string data;
  std::string completion;
  std::string head_etag;
  std::string complete_body =
      "<CompleteMultipartUploadResult><ETag>&quot;whole-3&quot;</ETag></CompleteMultipartUploadResult>";
  std::atomic<bool> fail_next_part{false};
  std::atomic<bool> lose_completion{false};
  std::atomic<bool> completed{false};
  std::atomic<int> abort_status{204};
};

TEST_F(S3StoreTest, WritesAnObjectInParts) {
  UploadServer upload;
  TestServer server([&](Peer& peer) { upload(peer); });
  const auto store = Open(server);
  auto writer = store->Create(ref_, "text/csv");
  ASSERT_TRUE(writer.ok()) << writer.status();
  EXPECT_EQ((*writer)->upload_id(), "up/1");
  EXPECT_THAT(server.requests(), ElementsAre("POST /bucket/a%20key?uploads="));
  upload.fail_next_part = true;
  const std::string data = Pattern(2 * kPartBytes + 12345);
  for (size_t i = 0; i < data.size(); i += 999999) {
    ASSERT_TRUE((*writer)->Write(std::string_view(data).substr(i, 999999)).ok());
  }
  const auto info = (*writer)->Commit();
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->size, static_cast<int64_t>(data.size()));
  EXPECT_EQ(info->etag, "whole-3");
  EXPECT_THAT(upload.part_sizes, ElementsAre(kPartBytes, kPartBytes, 12345u));
  EXPECT_TRUE(upload.data == data);
  EXPECT_THAT(upload.completion,
              HasSubstr("<Part><PartNumber>3</PartNumber><ETag>&quot;0000000000000000000000000000"
                        "0003&quot;</ETag></Part>"));
  EXPECT_FALSE((*writer)->Write("more").ok());
}

TEST_F(S3StoreTest, WritesAnEmptyObject) {
  UploadServer upload;
  TestServer server([&](Peer& peer) { upload(peer); });
  const auto store = Open(server);
  auto writer = store->Create(ref_, "text/csv");
  ASSERT_TRUE(writer.ok()) << writer.status();
  const auto info = (*writer)->Commit();
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->size, 0);
  EXPECT_EQ(info->etag, "put");
  EXPECT_THAT(server.requests(), Contains("DELETE /bucket/a%20key?uploadId=up%2F1"));
}

TEST_F(S3StoreTest, SeesAnErrorUnderTheStatus200OfACompletion) {
  UploadServer upload;
  upload.complete_body = "<Error><Code>InvalidPart</Code></Error>";
  TestServer server([&](Peer& peer) { upload(peer); });
  const auto store = Open(server);
  auto writer = store->Create(ref_, "");
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE((*writer)->Write("data").ok());
  EXPECT_EQ(ReasonOf((*writer)->Commit().status()), "STORE_REFUSED");
}

TEST_F(S3StoreTest, RecognizesItsOwnObjectWhenTheAnswerToTheCompletionWasLost) {
  for (const bool same : {true, false}) {
    UploadServer upload;
    upload.lose_completion = true;
    upload.completed = true;
    // MD5 of the one part's MD5, and the number of parts.
    upload.head_etag = same ? "cf404dc806178c245b5b4fe2531e6d8c-1" : "00000000000000000000000000000000-1";
    TestServer server([&](Peer& peer) { upload(peer); });
    const auto store = Open(server);
    auto writer = store->Create(ref_, "");
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE((*writer)->Write("data").ok());
    const auto info = (*writer)->Commit();
    if (same) {
      ASSERT_TRUE(info.ok()) << info.status();
      EXPECT_EQ(info->size, 4);
    } else {
      EXPECT_EQ(ReasonOf(info.status()), "OBJECT_NOT_FOUND");
    }
  }
}

TEST_F(S3StoreTest, AbortsUploadsAndDoesNotMindAbsentOnes) {
  UploadServer upload;
  TestServer server([&](Peer& peer) { upload(peer); });
  const auto store = Open(server);
  auto writer = store->Create(ref_, "");
  ASSERT_TRUE(writer.ok());
  (*writer)->Abort();
  EXPECT_THAT(server.requests(), Contains("DELETE /bucket/a%20key?uploadId=up%2F1"));
  EXPECT_FALSE((*writer)->Commit().ok());
  upload.abort_status = 404;
  EXPECT_TRUE(store->AbortUpload(ref_, "gone").ok());
  EXPECT_TRUE(store->Delete(ref_).ok());
  upload.abort_status = 403;
  EXPECT_EQ(ReasonOf(store->AbortUpload(ref_, "x")), "OBJECT_DENIED");
}

TEST_F(S3StoreTest, AbortsAllUploadsOfAKeyAndNoOther) {
  TestServer server([](Peer& peer) {
    while (peer.ReadRequest()) {
      if (peer.method() == "GET") {
        peer.Answer(200,
                    "<?xml version=\"1.0\"?><ListMultipartUploadsResult "
                    "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>bucket</Bucket>"
                    "<Upload><Key>a key</Key><UploadId>one</UploadId></Upload>"
                    "<Upload><Key>a key and more</Key><UploadId>other</UploadId></Upload>"
                    "<Upload><Key>a key</Key><UploadId>two</UploadId></Upload></ListMultipartUploadsResult>");
      } else {
        peer.Answer(204, "");
      }
    }
  });
  EXPECT_TRUE(Open(server)->AbortUploads(ref_).ok());
  EXPECT_THAT(server.requests(),
              ElementsAre("GET /bucket?max-uploads=100&prefix=a%20key&uploads=",
                          "DELETE /bucket/a%20key?uploadId=one", "DELETE /bucket/a%20key?uploadId=two"));
}

TEST_F(S3StoreTest, SaysWhenUploadsCanNotBeListed) {
  std::string body = "<Error><Code>NotImplemented</Code></Error>";
  std::atomic<int> status{501};
  TestServer server([&](Peer& peer) {
    while (peer.ReadRequest()) peer.Answer(status, body);
  });
  const auto store = Open(server);
  EXPECT_EQ(ReasonOf(store->AbortUploads(ref_)), "STORE_REFUSED");
  status = 200;
  body = "<html>what?</html>";
  EXPECT_EQ(ReasonOf(store->AbortUploads(ref_)), "STORE_REFUSED");
}

TEST_F(S3StoreTest, ShutdownEndsCallsInProgress) {
  TestServer server([](Peer& peer) {
    if (peer.ReadRequest() && peer.method() == "GET") {
      peer.Send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\nETag: \"e\"\r\n\r\nsome");
    }
    peer.AwaitClose();
  });
  ObjectStoreOptions patient;
  patient.first_backoff = absl::Seconds(10);
  const auto store = Open(server, std::move(patient));
  absl::Status head, read;
  auto reader = store->Open(ref_, 0, "");
  ASSERT_TRUE(reader.ok()) << reader.status();
  std::thread first([&] { head = store->Head(ref_).status(); });
  std::thread second([&] { read = ReadAll(**reader).status(); });
  while (server.requests().size() < 2) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  store->Shutdown();
  first.join();
  second.join();
  EXPECT_EQ(ReasonOf(head), "STORE_CLOSED");
  EXPECT_EQ(ReasonOf(read), "STORE_CLOSED");
  EXPECT_EQ(ReasonOf(store->Put(ref_, "x", "").status()), "STORE_CLOSED");
}

TEST_F(S3StoreTest, ShutdownEndsAWaitBetweenTries) {
  std::atomic<int> served{0};
  TestServer server([&](Peer& peer) {
    while (peer.ReadRequest()) {
      ++served;
      peer.Answer(503, "", "Retry-After: 60\r\n");
    }
  });
  const auto store = Open(server);
  absl::Status head;
  std::thread waiting([&] { head = store->Head(ref_).status(); });
  while (served == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const absl::Duration begin = SystemClock().Elapsed();
  store->Shutdown();
  waiting.join();
  EXPECT_LT(SystemClock().Elapsed() - begin, absl::Seconds(5));
  EXPECT_FALSE(head.ok());
}

TEST_F(S3StoreTest, ManyThreadsMayUseItAtOnce) {
  ObjectServer object(Pattern(200000), 90000);
  TestServer server([&](Peer& peer) { object(peer); });
  const auto store = Open(server);
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5; ++i) {
        auto reader = store->Open(ref_, 0, "");
        ASSERT_TRUE(reader.ok()) << reader.status();
        EXPECT_TRUE(ReadAll(**reader, 5000).value_or("?") == object.object_);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace drover

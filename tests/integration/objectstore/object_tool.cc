// Does to a store what a line of JSON says, so that a test in Python can check with boto3 what came of it.
//
//   object_tool STORES_YAML STORE < commands > answers
//
// Commands: {"do": "put" | "write" | "abandon" | "read" | "head" | "delete" | "abort" | "request", "bucket":
// …, "key": …, …}. Bytes ("key", "data", "body", header values, tags) are Base64. Answers: {"ok": true, …} or
// {"reason": …, "message": …}.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "absl/strings/escaping.h"
#include "common/objectstore/object_store.h"
#include "common/objectstore/s3_client.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

using nlohmann::json;

std::string Decode(const json& text) {
  std::string out;
  if (!absl::Base64Unescape(text.get<std::string>(), &out)) out.clear();
  return out;
}

json Encode(std::string_view bytes) { return absl::Base64Escape(ToAbsl(bytes)); }

json Failed(const absl::Status& status) {
  const ErrorDetails details = GetErrorDetails(status).value_or(ErrorDetails());
  return {{"ok", false}, {"reason", details.reason}, {"message", std::string(status.message())}};
}

json Described(const absl::StatusOr<ObjectInfo>& info) {
  if (!info.ok()) return Failed(info.status());
  return {{"ok", true},
          {"size", info->size},
          {"etag", info->etag},
          {"version", info->version_id},
          {"modified", absl::ToUnixSeconds(info->modified)}};
}

json ReadAll(ObjectStore& store, const ObjectRef& ref, const json& command) {
  auto reader = store.Open(ref, command.value("offset", int64_t{0}), command.value("etag", ""));
  if (!reader.ok()) return Failed(reader.status());
  std::string all;
  std::string buffer(100000, '\0');
  while (true) {
    const auto n = (*reader)->Read(buffer.data(), buffer.size());
    if (!n.ok()) return Failed(n.status());
    if (*n == 0) break;
    all.append(buffer, 0, *n);
  }
  json answer = Described((*reader)->info());
  answer["data"] = Encode(all);
  return answer;
}

json WriteInPieces(ObjectStore& store, const ObjectRef& ref, const json& command) {
  auto writer = store.Create(ref, "text/csv");
  if (!writer.ok()) return Failed(writer.status());
  const std::string data = Decode(command["data"]);
  for (size_t i = 0; i < data.size(); i += 777777) {
    if (absl::Status status = (*writer)->Write(std::string_view(data).substr(i, 777777)); !status.ok()) {
      return Failed(status);
    }
  }
  json answer = {{"ok", true}};
  if (command["do"] == "write") answer = Described((*writer)->Commit());
  answer["upload_id"] = (*writer)->upload_id();
  return answer;
}

// A request of the worker's kind.
json Request(const StoreConfig& config, const ObjectRef& ref, const json& command) {
  boost::asio::io_context io(1);
  auto http = HttpClient::Create(io, SystemClock(), HttpOptionsFor(config));
  if (!http.ok()) return Failed(http.status());
  S3Client s3(config, **http, SystemClock());
  S3Request request;
  request.method = command["method"];
  request.bucket = ref.bucket;
  request.key = ref.key;
  request.user_agent = command.value("user_agent", "");
  const json query = command.value("query", json::object());
  for (const auto& [name, value] : query.items()) {
    request.query.emplace_back(name, value.get<std::string>());
  }
  const json headers_to_send = command.value("headers", json::object());
  for (const auto& [name, value] : headers_to_send.items()) {
    request.headers.Add(name, Decode(value));
  }
  if (command.contains("copy_source")) {
    const json& source = command["copy_source"];
    request.headers.Add("x-amz-copy-source",
                        EncodeCopySource(source["bucket"].get<std::string>(), Decode(source["key"]),
                                         source.value("version", "")));
  }
  if (command.contains("tags")) {
    std::vector<std::pair<std::string, std::string>> tags;
    for (const json& tag : command["tags"]) tags.emplace_back(Decode(tag[0]), Decode(tag[1]));
    request.body = TaggingXml(tags);
    request.content_md5 = true;
  }
  if (command.contains("body")) request.body = Decode(command["body"]);
  std::optional<absl::StatusOr<S3Response>> response;
  boost::asio::co_spawn(io, s3.Send(std::move(request)),
                        [&](std::exception_ptr, absl::StatusOr<S3Response> result) {
                          response = std::move(result);
                          (*http)->Shutdown();
                        });
  io.run();
  if (!response->ok()) return Failed(response->status());
  const S3Response& got = **response;
  json headers = json::object();
  for (const auto& [name, value] : got.headers) headers[name] = Encode(value);
  return {{"ok", got.ok()},     {"status", got.status},     {"error_code", got.error_code},
          {"headers", headers}, {"body", Encode(got.body)}, {"request_id", got.request_id}};
}

json Do(const StoreConfig& config, ObjectStore& store, const json& command) {
  const ObjectRef ref = {command["bucket"], Decode(command["key"]), command.value("version", "")};
  const std::string what = command["do"];
  if (what == "put") return Described(store.Put(ref, Decode(command["data"]), "text/plain"));
  if (what == "write" || what == "abandon") return WriteInPieces(store, ref, command);
  if (what == "read") return ReadAll(store, ref, command);
  if (what == "head") return Described(store.Head(ref));
  if (what == "request") return Request(config, ref, command);
  const absl::Status status =
      what == "delete" ? store.Delete(ref) : store.AbortUpload(ref, command["upload_id"].get<std::string>());
  return status.ok() ? json{{"ok", true}} : Failed(status);
}

int Main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: object_tool STORES_YAML STORE\n", stderr);
    return 2;
  }
  const auto stores = Stores::Load(argv[1]);
  if (!stores.ok()) {
    std::fprintf(stderr, "%s\n", std::string(stores.status().message()).c_str());
    return 1;
  }
  const StoreConfig* config = stores->Find(argv[2]);
  if (config == nullptr) {
    std::fprintf(stderr, "no store %s\n", argv[2]);
    return 1;
  }
  auto store = OpenObjectStore(*config, {.max_retry_time = absl::Seconds(10)});
  if (!store.ok()) {
    std::fprintf(stderr, "%s\n", std::string(store.status().message()).c_str());
    return 1;
  }
  std::string line;
  while (std::getline(std::cin, line))
    std::cout << Do(*config, **store, json::parse(line)).dump() << std::endl;
  return 0;
}

}  // namespace
}  // namespace drover

int main(int argc, char** argv) { return drover::Main(argc, argv); }

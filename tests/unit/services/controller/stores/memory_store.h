// An object store in memory, of kind s3, with errors on demand: for tests of what reads manifests and writes
// reports.
#ifndef DROVER_TESTS_UNIT_SERVICES_CONTROLLER_STORES_MEMORY_STORE_H_
#define DROVER_TESTS_UNIT_SERVICES_CONTROLLER_STORES_MEMORY_STORE_H_

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/objectstore/object_store.h"
#include "common/status/status.h"
#include "common/strings/strings.h"
#include "common/sync/mutex.h"

namespace drover {

// Thread-safe. Shared by all ObjectStores that are opened on it.
struct MemoryStoreState {
  Mutex mu;
  std::map<std::string, std::string> objects ABSL_GUARDED_BY(mu);  // "bucket/key" -> content
  std::map<std::string, std::string> etags ABSL_GUARDED_BY(mu);
  std::set<std::string> uploads ABSL_GUARDED_BY(mu);                   // open ones
  std::map<std::string, std::string> upload_keys ABSL_GUARDED_BY(mu);  // of all
  std::vector<std::string> puts ABSL_GUARDED_BY(mu);                   // keys put or committed, in order
  int next_upload ABSL_GUARDED_BY(mu) = 0;
  int64_t first_read_offset ABSL_GUARDED_BY(mu) = -1;  // of the last Open
  // Called first by each method ("Open", "Read", "Put", "Create", "Write", "Commit", "AbortUpload", "Head")
  // with the key and, for Read and Write, the bytes so far; an error is returned.
  std::function<absl::Status(const std::string& method, const std::string& key, int64_t at)> fault;

  absl::Status Fault(const std::string& method, const std::string& key, int64_t at = 0) {
    return fault ? fault(method, key, at) : absl::OkStatus();
  }
  void Set(const std::string& path, std::string content, std::string etag) {
    MutexLock lock(&mu);
    objects[path] = std::move(content);
    etags[path] = std::move(etag);
  }
  std::string Get(const std::string& path) {
    MutexLock lock(&mu);
    const auto found = objects.find(path);
    return found == objects.end() ? "(none)" : found->second;
  }
  bool Has(const std::string& path) {
    MutexLock lock(&mu);
    return objects.contains(path);
  }
  size_t open_uploads() {
    MutexLock lock(&mu);
    return uploads.size();
  }
};

inline absl::Status StoreError(absl::StatusCode code, std::string_view reason) {
  return Error(code, reason, StrCat("store says ", reason));
}

class MemoryStore : public ObjectStore {
 public:
  MemoryStore(std::shared_ptr<MemoryStoreState> state, StoreConfig config)
      : state_(std::move(state)), config_(std::move(config)) {}

  absl::StatusOr<ObjectInfo> Head(const ObjectRef& ref) override {
    DROVER_RETURN_IF_ERROR(state_->Fault("Head", ref.key));
    MutexLock lock(&state_->mu);
    return InfoOf(ref);
  }

  absl::StatusOr<std::unique_ptr<ObjectReader>> Open(const ObjectRef& ref, int64_t offset,
                                                     std::string_view expected_etag) override {
    DROVER_RETURN_IF_ERROR(state_->Fault("Open", ref.key));
    MutexLock lock(&state_->mu);
    DROVER_ASSIGN_OR_RETURN(const ObjectInfo info, InfoOf(ref));
    std::string expected(expected_etag);
    std::erase(expected, '"');
    if (!expected.empty() && expected != info.etag) {
      return StoreError(absl::StatusCode::kFailedPrecondition, "OBJECT_CHANGED");
    }
    state_->first_read_offset = offset;
    return std::make_unique<Reader>(state_, info, state_->objects.at(PathOf(ref)), ref.key, offset);
  }

  absl::StatusOr<ObjectInfo> Put(const ObjectRef& ref, std::string_view data, std::string_view) override {
    DROVER_RETURN_IF_ERROR(state_->Fault("Put", ref.key));
    MutexLock lock(&state_->mu);
    state_->objects[PathOf(ref)] = std::string(data);
    state_->puts.push_back(ref.key);
    return InfoOf(ref);
  }

  absl::StatusOr<std::unique_ptr<ObjectWriter>> Create(const ObjectRef& ref, std::string_view) override {
    DROVER_RETURN_IF_ERROR(state_->Fault("Create", ref.key));
    MutexLock lock(&state_->mu);
    const std::string id = absl::StrCat("upload-", ++state_->next_upload);
    state_->uploads.insert(id);
    state_->upload_keys[id] = ref.key;
    return std::make_unique<Writer>(state_, PathOf(ref), ref.key, id);
  }

  absl::Status AbortUpload(const ObjectRef& ref, std::string_view upload_id) override {
    DROVER_RETURN_IF_ERROR(state_->Fault("AbortUpload", ref.key));
    MutexLock lock(&state_->mu);
    state_->uploads.erase(std::string(upload_id));
    return absl::OkStatus();
  }
  absl::Status AbortUploads(const ObjectRef& ref) override {
    DROVER_RETURN_IF_ERROR(state_->Fault("AbortUploads", ref.key));
    MutexLock lock(&state_->mu);
    std::erase_if(state_->uploads, [&](const std::string& id) { return state_->upload_keys[id] == ref.key; });
    return absl::OkStatus();
  }
  absl::Status Delete(const ObjectRef& ref) override {
    MutexLock lock(&state_->mu);
    state_->objects.erase(PathOf(ref));
    return absl::OkStatus();
  }
  void Shutdown() override {}
  const StoreConfig& config() const override { return config_; }

 private:
  class Reader : public ObjectReader {
   public:
    Reader(std::shared_ptr<MemoryStoreState> state, ObjectInfo info, std::string content, std::string key,
           int64_t at)
        : state_(std::move(state)),
          info_(std::move(info)),
          content_(std::move(content)),
          key_(std::move(key)),
          at_(static_cast<size_t>(at)) {}
    absl::StatusOr<size_t> Read(char* buffer, size_t size) override {
      DROVER_RETURN_IF_ERROR(state_->Fault("Read", key_, static_cast<int64_t>(at_)));
      const size_t n = std::min(size, content_.size() - std::min(at_, content_.size()));
      std::memcpy(buffer, content_.data() + at_, n);
      at_ += n;
      return n;
    }
    const ObjectInfo& info() const override { return info_; }

   private:
    const std::shared_ptr<MemoryStoreState> state_;
    const ObjectInfo info_;
    const std::string content_;
    const std::string key_;
    size_t at_;
  };

  class Writer : public ObjectWriter {
   public:
    Writer(std::shared_ptr<MemoryStoreState> state, std::string path, std::string key, std::string id)
        : state_(std::move(state)), path_(std::move(path)), key_(std::move(key)), id_(std::move(id)) {}
    absl::Status Write(std::string_view data) override {
      DROVER_RETURN_IF_ERROR(state_->Fault("Write", key_, static_cast<int64_t>(content_.size())));
      content_ += data;
      return absl::OkStatus();
    }
    absl::StatusOr<ObjectInfo> Commit() override {
      DROVER_RETURN_IF_ERROR(state_->Fault("Commit", key_));
      MutexLock lock(&state_->mu);
      if (state_->uploads.erase(id_) == 0) return StoreError(absl::StatusCode::kNotFound, "OBJECT_NOT_FOUND");
      state_->objects[path_] = content_;
      state_->puts.push_back(key_);
      ObjectInfo info;
      info.size = static_cast<int64_t>(content_.size());
      info.etag = "etag";
      return info;
    }
    void Abort() override {
      MutexLock lock(&state_->mu);
      state_->uploads.erase(id_);
    }
    const std::string& upload_id() const override { return id_; }

   private:
    const std::shared_ptr<MemoryStoreState> state_;
    const std::string path_;
    const std::string key_;
    const std::string id_;
    std::string content_;
  };

  static std::string PathOf(const ObjectRef& ref) { return ref.bucket + "/" + ref.key; }

  absl::StatusOr<ObjectInfo> InfoOf(const ObjectRef& ref) ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_->mu) {
    const auto found = state_->objects.find(PathOf(ref));
    if (found == state_->objects.end()) return StoreError(absl::StatusCode::kNotFound, "OBJECT_NOT_FOUND");
    ObjectInfo info;
    info.size = static_cast<int64_t>(found->second.size());
    info.etag = state_->etags[PathOf(ref)];
    return info;
  }

  const std::shared_ptr<MemoryStoreState> state_;
  const StoreConfig config_;
};

}  // namespace drover

#endif  // DROVER_TESTS_UNIT_SERVICES_CONTROLLER_STORES_MEMORY_STORE_H_

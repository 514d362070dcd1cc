// Files under a root that nothing leaves: every path goes through openat2() with RESOLVE_BENEATH, so that
// neither ".." nor a symbolic link, nor a directory swapped for one in the middle of a call, leads out of it.
// Names are checked before, but only for clear messages.
//
// A file appears as a whole: it is written under a temporary name beside its own, synced, renamed, and the
// directory synced. The temporary name is the upload id: ".drover-upload-", 16 hex digits made of the file's
// name, by which its uploads are found again, and 16 random ones.
#include "common/objectstore/file_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "common/hash/sha256.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

constexpr std::string_view kUploadPrefix = ".drover-upload-";
constexpr size_t kUploadDigits = 16;  // of the name, and random ones
constexpr size_t kMaxPart = 255;
constexpr size_t kMaxKey = 1024;
constexpr size_t kWriteBuffer = 1 << 20;
// Bytes written until the disk is told to begin with them.
constexpr int64_t kWritebackBytes = 4 << 20;
// openat2 gives up with EAGAIN when directories move about meanwhile.
constexpr int kResolveAttempts = 32;

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  // Somebody else closes it.
  void Release() { fd_ = -1; }

 private:
  int fd_ = -1;
};

absl::Status Fail(absl::StatusCode code, std::string_view reason, std::string_view store,
                  std::string_view message) {
  return Error(code, reason, StrCat("store ", store, ": ", message), {{"store", std::string(store)}});
}

// `what` names the file or action; `error` is an errno.
absl::Status FailErrno(std::string_view store, std::string_view what, int error) {
  const std::string message = StrCat(what, ": ", std::strerror(error));
  switch (error) {
    case ENOENT:
    case ENOTDIR: return Fail(absl::StatusCode::kNotFound, "OBJECT_NOT_FOUND", store, message);
    case EACCES:
    case EPERM:
    case EROFS: return Fail(absl::StatusCode::kPermissionDenied, "OBJECT_DENIED", store, message);
    case EXDEV:
    case ELOOP:
      return Fail(absl::StatusCode::kPermissionDenied, "OBJECT_DENIED", store,
                  StrCat(what, ": a symbolic link on the way leads out of the store's root"));
    case ENAMETOOLONG:
    case EISDIR:
    case ENOTEMPTY: return Fail(absl::StatusCode::kInvalidArgument, "OBJECT_NAME_INVALID", store, message);
    case ENOSPC:  // somebody may make room
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case EAGAIN:
    case ESTALE: return Fail(absl::StatusCode::kUnavailable, "STORE_UNAVAILABLE", store, message);
    case ENOSYS:
      return Fail(absl::StatusCode::kFailedPrecondition, "STORE_REFUSED", store,
                  "file stores need openat2(), Linux 5.6 or later");
    default: return Fail(absl::StatusCode::kInternal, "STORE_IO", store, message);
  }
}

// An errno, or a descriptor.
struct Opened {
  Fd fd;
  int error = 0;
};

Opened OpenBeneath(int directory, const std::string& path, int flags, mode_t mode = 0) {
  open_how how = {};
  how.flags = static_cast<uint64_t>(flags) | O_CLOEXEC;
  how.mode = mode;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  long fd = -1;
  for (int attempt = 0; attempt < kResolveAttempts; ++attempt) {
    fd = syscall(SYS_openat2, directory, path.c_str(), &how, sizeof(how));
    if (fd >= 0) return {Fd(static_cast<int>(fd)), 0};
    if (errno != EAGAIN && errno != EINTR) break;
  }
  return {Fd(), errno};
}

bool IsUploadName(std::string_view name) {
  if (!ConsumePrefix(&name, kUploadPrefix)) return false;
  return name.size() == 2 * kUploadDigits && name.find_first_not_of("0123456789abcdef") == name.npos;
}

// What the ids of all uploads of a file called `name` begin with.
std::string UploadPrefixOf(std::string_view name) {
  return StrCat(kUploadPrefix, Sha256Hex(name).substr(0, kUploadDigits));
}

// What is wrong with a part of a path; "" if nothing is.
std::string_view WrongPart(std::string_view part) {
  if (part.empty()) return "has an empty part (a slash at its front or end, or two in a row)";
  if (part == "." || part == "..") return "has a part '.' or '..'";
  if (part.size() > kMaxPart) return "has a part of more than 255 bytes";
  if (part.find('\0') != part.npos) return "has a NUL byte";
  if (StartsWith(part, kUploadPrefix)) return "has a part that begins as unfinished uploads do";
  return {};
}

// A key as a message shows it.
std::string Shown(std::string_view text) {
  return StrCat("'", absl::CHexEscape(ToAbsl(text.substr(0, 200))), text.size() > 200 ? "…'" : "'");
}

// Where an object lies: `directory` and `name` beneath the root.
struct Place {
  std::string directory;
  std::string name;
  std::string path() const { return directory + "/" + name; }
};

absl::StatusOr<Place> FindPlace(const std::string& store, const ObjectRef& ref) {
  const auto invalid = [&](std::string_view message) {
    return Fail(absl::StatusCode::kInvalidArgument, "OBJECT_NAME_INVALID", store, message);
  };
  if (!ref.version_id.empty()) return invalid("files have no versions");
  if (ref.bucket.find('/') != ref.bucket.npos)
    return invalid(StrCat("the bucket ", Shown(ref.bucket), " has a slash"));
  if (const std::string_view wrong = WrongPart(ref.bucket); !wrong.empty()) {
    return invalid(StrCat("the bucket ", Shown(ref.bucket), " ", wrong));
  }
  if (ref.key.empty() || ref.key.size() > kMaxKey) return invalid("the key must have 1 to 1024 bytes");
  for (std::string_view part : Split(ref.key, '/')) {
    if (const std::string_view wrong = WrongPart(part); !wrong.empty()) {
      return invalid(StrCat("the key ", Shown(ref.key), " ", wrong, ", which a file store can't hold"));
    }
  }
  const size_t slash = ref.key.rfind('/');
  if (slash == ref.key.npos) return Place{ref.bucket, ref.key};
  return Place{ref.bucket + "/" + ref.key.substr(0, slash), ref.key.substr(slash + 1)};
}

ObjectInfo InfoOf(const struct stat& st) {
  ObjectInfo info;
  info.size = st.st_size;
  const absl::Duration since_1970 = absl::DurationFromTimespec(st.st_mtim);
  info.modified = absl::UnixEpoch() + since_1970;
  info.etag = StrCat(info.size, "-", absl::ToInt64Nanoseconds(since_1970));
  return info;
}

std::string_view WithoutQuotes(std::string_view etag) {
  if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"') return etag.substr(1, etag.size() - 2);
  return etag;
}

class FileReader final : public ObjectReader {
 public:
  FileReader(std::string store, std::string shown, Fd fd, ObjectInfo info, int64_t offset)
      : store_(std::move(store)),
        shown_(std::move(shown)),
        fd_(std::move(fd)),
        info_(std::move(info)),
        next_(offset) {}

  absl::StatusOr<size_t> Read(char* buffer, size_t size) override {
    if (!error_.ok()) return error_;
    // Never beyond the size at the opening: what was appended since is not part of this object.
    const auto left = static_cast<uint64_t>(info_.size - next_);
    const size_t wanted = std::min<uint64_t>(size, left);
    ssize_t n = 0;
    if (wanted > 0) {
      do {
        n = pread(fd_.get(), buffer, wanted, next_);
      } while (n < 0 && errno == EINTR);
      if (n < 0) return error_ = FailErrno(store_, StrCat("can't read ", shown_), errno);
      next_ += n;
    }
    // At the end, or what passes for it: is it still the file that was opened?
    if (next_ == info_.size || n == 0) {
      struct stat st;
      if (fstat(fd_.get(), &st) != 0) return error_ = FailErrno(store_, StrCat("can't read ", shown_), errno);
      if (InfoOf(st).etag != info_.etag) {
        return error_ = Fail(absl::StatusCode::kFailedPrecondition, "OBJECT_CHANGED", store_,
                             StrCat(shown_, " was changed while it was read"));
      }
    }
    return static_cast<size_t>(n);
  }

  const ObjectInfo& info() const override { return info_; }

 private:
  const std::string store_;
  const std::string shown_;
  const Fd fd_;
  const ObjectInfo info_;
  int64_t next_;
  absl::Status error_;
};

class FileWriter final : public ObjectWriter {
 public:
  FileWriter(std::string store, Place place, Fd directory, Fd fd, std::string upload_id)
      : store_(std::move(store)),
        place_(std::move(place)),
        directory_(std::move(directory)),
        fd_(std::move(fd)),
        upload_id_(std::move(upload_id)) {}

  absl::Status Write(std::string_view data) override {
    DROVER_RETURN_IF_ERROR(error_);
    // Long pieces go through without a copy.
    if (buffer_.size() + data.size() > kWriteBuffer) {
      DROVER_RETURN_IF_ERROR(Flush());
      if (data.size() >= kWriteBuffer) return WriteAll(data);
    }
    buffer_.append(data);
    return absl::OkStatus();
  }

  absl::StatusOr<ObjectInfo> Commit() override {
    DROVER_RETURN_IF_ERROR(error_);
    DROVER_RETURN_IF_ERROR(Flush());
    struct stat st;
    if (fsync(fd_.get()) != 0 || fstat(fd_.get(), &st) != 0) return FailHere("can't sync");
    if (renameat(directory_.get(), upload_id_.c_str(), directory_.get(), place_.name.c_str()) != 0) {
      return FailHere("can't rename to");
    }
    if (fsync(directory_.get()) != 0) return FailHere("can't sync the directory of");
    error_ = Fail(absl::StatusCode::kFailedPrecondition, "STORE_REFUSED", store_, "already written");
    return InfoOf(st);
  }

  void Abort() override {
    if (error_.ok()) error_ = Fail(absl::StatusCode::kFailedPrecondition, "STORE_REFUSED", store_, "aborted");
    unlinkat(directory_.get(), upload_id_.c_str(), 0);
  }

  const std::string& upload_id() const override { return upload_id_; }

 private:
  absl::Status FailHere(std::string_view what) {
    return error_ = FailErrno(store_, StrCat(what, " ", Shown(place_.path())), errno);
  }

  absl::Status Flush() {
    DROVER_RETURN_IF_ERROR(WriteAll(buffer_));
    buffer_.clear();
    return absl::OkStatus();
  }

  absl::Status WriteAll(std::string_view data) {
    while (!data.empty()) {
      const ssize_t n = write(fd_.get(), data.data(), data.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return FailHere("can't write");
      data.remove_prefix(static_cast<size_t>(n));
      written_ += n;
    }
    StartWriteback();
    return absl::OkStatus();
  }

  // Has the disk write while the rest of the file is still being made, so that Commit() finds little left to
  // sync. Only a hint: what goes wrong is found there.
  void StartWriteback() {
    if (written_ - writeback_ < kWritebackBytes) return;
    sync_file_range(fd_.get(), writeback_, written_ - writeback_, SYNC_FILE_RANGE_WRITE);
    writeback_ = written_;
  }

  const std::string store_;
  const Place place_;
  const Fd directory_;
  const Fd fd_;
  const std::string upload_id_;
  std::string buffer_;
  int64_t written_ = 0;    // bytes given to the kernel
  int64_t writeback_ = 0;  // of these, given on to the disk
  absl::Status error_;
};

class FileStore final : public ObjectStore {
 public:
  FileStore(const StoreConfig& config, Random& random) : config_(config), random_(random) {}

  absl::StatusOr<ObjectInfo> Head(const ObjectRef& ref) override {
    DROVER_ASSIGN_OR_RETURN(const Place place, FindPlace(config_.name, ref));
    ObjectInfo info;
    DROVER_RETURN_IF_ERROR(OpenObject(place, &info).status());
    return info;
  }

  absl::StatusOr<std::unique_ptr<ObjectReader>> Open(const ObjectRef& ref, int64_t offset,
                                                     std::string_view expected_etag) override {
    DROVER_ASSIGN_OR_RETURN(const Place place, FindPlace(config_.name, ref));
    ObjectInfo info;
    DROVER_ASSIGN_OR_RETURN(Fd fd, OpenObject(place, &info));
    const std::string shown = Shown(place.path());
    if (!expected_etag.empty() && WithoutQuotes(expected_etag) != info.etag) {
      return Fail(absl::StatusCode::kFailedPrecondition, "OBJECT_CHANGED", config_.name,
                  StrCat(shown, " has the ETag ", info.etag, ", not ", WithoutQuotes(expected_etag)));
    }
    if (offset < 0 || offset > info.size) {
      return Fail(absl::StatusCode::kOutOfRange, "STORE_REFUSED", config_.name,
                  StrCat(shown, " has ", info.size, " bytes, no offset ", offset));
    }
    posix_fadvise(fd.get(), offset, 0, POSIX_FADV_SEQUENTIAL);
    return std::make_unique<FileReader>(config_.name, shown, std::move(fd), std::move(info), offset);
  }

  absl::StatusOr<ObjectInfo> Put(const ObjectRef& ref, std::string_view data,
                                 std::string_view content_type) override {
    if (data.size() > static_cast<size_t>(kMaxPutBytes)) {
      return Fail(absl::StatusCode::kInvalidArgument, "STORE_REFUSED", config_.name,
                  StrCat("more than ", kMaxPutBytes, " bytes in one piece"));
    }
    DROVER_ASSIGN_OR_RETURN(auto writer, Create(ref, content_type));
    absl::Status status = writer->Write(data);
    if (status.ok()) {
      auto info = writer->Commit();
      if (info.ok()) return info;
      status = info.status();
    }
    writer->Abort();
    return status;
  }

  absl::StatusOr<std::unique_ptr<ObjectWriter>> Create(const ObjectRef& ref, std::string_view) override {
    DROVER_ASSIGN_OR_RETURN(Place place, FindPlace(config_.name, ref));
    DROVER_ASSIGN_OR_RETURN(Fd root, OpenRoot());
    Opened directory = OpenDirectory(root.get(), place.directory, /*create=*/true);
    if (directory.error != 0) return Failed("can't make the directory", place.directory, directory.error);
    std::string upload_id = UploadPrefixOf(place.name);
    absl::StrAppendFormat(&upload_id, "%016x", random_.Next());
    Opened file = OpenBeneath(directory.fd.get(), upload_id, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);
    if (file.error != 0) return Failed("can't create a file beside", place.path(), file.error);
    return std::make_unique<FileWriter>(config_.name, std::move(place), std::move(directory.fd),
                                        std::move(file.fd), std::move(upload_id));
  }

  absl::Status AbortUpload(const ObjectRef& ref, std::string_view upload_id) override {
    DROVER_ASSIGN_OR_RETURN(const Place place, FindPlace(config_.name, ref));
    if (!IsUploadName(upload_id)) {
      return Fail(absl::StatusCode::kInvalidArgument, "STORE_REFUSED", config_.name,
                  "not an upload id of a file store");
    }
    return Remove(place.directory, std::string(upload_id));
  }

  absl::Status AbortUploads(const ObjectRef& ref) override {
    DROVER_ASSIGN_OR_RETURN(const Place place, FindPlace(config_.name, ref));
    DROVER_ASSIGN_OR_RETURN(const std::vector<std::string> uploads, ListUploads(place));
    for (const std::string& upload : uploads) DROVER_RETURN_IF_ERROR(Remove(place.directory, upload));
    return absl::OkStatus();
  }

  absl::Status Delete(const ObjectRef& ref) override {
    DROVER_ASSIGN_OR_RETURN(const Place place, FindPlace(config_.name, ref));
    return Remove(place.directory, place.name);
  }

  // Calls are short; there is nothing to end.
  void Shutdown() override {}

  const StoreConfig& config() const override { return config_; }

 private:
  absl::Status Failed(std::string_view what, const std::string& path, int error) const {
    return FailErrno(config_.name, StrCat(what, " ", Shown(path)), error);
  }

  // Looked up each time, so that it may be mounted or replaced while the process runs.
  absl::StatusOr<Fd> OpenRoot() const {
    Fd root(open(config_.root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (root.get() >= 0) return root;
    return Fail(absl::StatusCode::kUnavailable, "STORE_UNAVAILABLE", config_.name,
                StrCat("its root ", config_.root, " can't be opened: ", std::strerror(errno)));
  }

  // Opens a directory beneath the root, for making files in it; makes it and those above it if they are
  // missing.
  static Opened OpenDirectory(int root, const std::string& path, bool create) {
    Opened opened = OpenBeneath(root, path, O_RDONLY | O_DIRECTORY);
    if (opened.error != ENOENT || !create) return opened;
    const size_t slash = path.rfind('/');
    Opened parent = slash == path.npos ? OpenBeneath(root, ".", O_RDONLY | O_DIRECTORY)
                                       : OpenDirectory(root, path.substr(0, slash), create);
    if (parent.error != 0) return parent;
    const std::string name = slash == path.npos ? path : path.substr(slash + 1);
    if (mkdirat(parent.fd.get(), name.c_str(), 0755) != 0 && errno != EEXIST) return {Fd(), errno};
    if (fsync(parent.fd.get()) != 0) return {Fd(), errno};
    return OpenBeneath(root, path, O_RDONLY | O_DIRECTORY);
  }

  // At most kMaxUploadsAborted.
  absl::StatusOr<std::vector<std::string>> ListUploads(const Place& place) const {
    DROVER_ASSIGN_OR_RETURN(Fd root, OpenRoot());
    std::vector<std::string> found;
    Opened directory = OpenDirectory(root.get(), place.directory, /*create=*/false);
    if (directory.error == ENOENT || directory.error == ENOTDIR) return found;
    if (directory.error != 0) return Failed("can't open the directory", place.directory, directory.error);
    const std::unique_ptr<DIR, int (*)(DIR*)> stream(fdopendir(directory.fd.get()), closedir);
    if (stream == nullptr) return Failed("can't list", place.directory, errno);
    directory.fd.Release();  // the stream closes it
    const std::string prefix = UploadPrefixOf(place.name);
    while (found.size() < kMaxUploadsAborted) {
      errno = 0;
      const dirent* entry = readdir(stream.get());
      if (entry == nullptr && errno != 0) return Failed("can't list", place.directory, errno);
      if (entry == nullptr) break;
      const std::string_view name(entry->d_name);
      if (IsUploadName(name) && StartsWith(name, prefix)) found.emplace_back(name);
    }
    return found;
  }

  absl::StatusOr<Fd> OpenObject(const Place& place, ObjectInfo* info) const {
    DROVER_ASSIGN_OR_RETURN(Fd root, OpenRoot());
    // O_NONBLOCK: a named pipe must not make us wait for its writer.
    Opened file = OpenBeneath(root.get(), place.path(), O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (file.error != 0) return Failed("can't open", place.path(), file.error);
    struct stat st;
    if (fstat(file.fd.get(), &st) != 0) return Failed("can't look at", place.path(), errno);
    if (!S_ISREG(st.st_mode)) {
      return Fail(absl::StatusCode::kNotFound, "OBJECT_NOT_FOUND", config_.name,
                  StrCat(Shown(place.path()), " is not a file"));
    }
    *info = InfoOf(st);
    return std::move(file.fd);
  }

  absl::Status Remove(const std::string& path, const std::string& name) const {
    DROVER_ASSIGN_OR_RETURN(Fd root, OpenRoot());
    Opened directory = OpenDirectory(root.get(), path, /*create=*/false);
    if (directory.error == ENOENT || directory.error == ENOTDIR) return absl::OkStatus();
    if (directory.error != 0) return Failed("can't open the directory", path, directory.error);
    if (unlinkat(directory.fd.get(), name.c_str(), 0) == 0 || errno == ENOENT) return absl::OkStatus();
    return Failed("can't remove", path + "/" + name, errno);
  }

  const StoreConfig config_;
  Random& random_;
};

}  // namespace

std::unique_ptr<ObjectStore> OpenFileStore(const StoreConfig& config, Random& random) {
  return std::make_unique<FileStore>(config, random);
}

}  // namespace drover

// Reads stores.yaml in one walk that gathers everything that is wrong, so that an operator need not fix it in
// as many starts as there are mistakes. yaml-cpp throws; it is caught in Parse().
#include "common/objectstore/stores.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "absl/strings/ascii.h"
#include "common/hash/sha256.h"
#include "common/objectstore/sigv4.h"
#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {
namespace {

constexpr size_t kMaxStores = 256;
constexpr size_t kMaxNameLength = 63;
constexpr int kMaxConnections = 4096;
constexpr size_t kMaxCredentialsFile = 64 << 10;

// Names under which people paste what must not be here.
const std::set<std::string>& InlineSecretNames() {
  static const std::set<std::string>* const names = new std::set<std::string>{
      "access_key", "access_key_id",     "aws_access_key_id",     "secret",        "secret_key",
      "password",   "secret_access_key", "aws_secret_access_key", "session_token", "aws_session_token"};
  return *names;
}

std::string Directory(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash + 1);
}

bool IsName(const std::string& name) {
  if (name.empty() || name.size() > kMaxNameLength || name[0] == '-' || name[0] == '_') return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-' || c == '_';
  });
}

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t limit) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    const int error = errno;
    return absl::Status(error == ENOENT ? absl::StatusCode::kNotFound : absl::StatusCode::kInvalidArgument,
                        StrCat("can't read ", path, ": ", std::strerror(error)));
  }
  std::string text(limit + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  if (in.bad()) return absl::InvalidArgumentError(StrCat("can't read ", path));
  if (text.size() > limit)
    return absl::InvalidArgumentError(StrCat(path, " is longer than ", limit, " bytes"));
  return text;
}

// A mapping of the file: takes its fields one by one, and knows in the end which ones nobody took.
class Fields {
 public:
  Fields(const YAML::Node& node, std::string path, const std::string& file, FieldErrors* errors)
      : path_(std::move(path)), file_(file), line_(node.Mark().line), errors_(errors) {
    if (!node.IsMap()) {
      Add(line_, "", "must be a mapping of fields");
      return;
    }
    for (const auto& item : node) {
      const std::string name = item.first.IsScalar() ? item.first.Scalar() : "?";
      const Field field{item.second, item.first.Mark().line, false};
      if (!fields_.emplace(name, field).second) Add(field.line, name, "is there twice");
    }
  }

  void Error(const std::string& name, std::string_view what) {
    const auto found = fields_.find(name);
    Add(found == fields_.end() ? line_ : found->second.line, name, what);
  }

  bool Has(const std::string& name) const { return fields_.count(name) != 0; }

  // The node of a field, which is then known; nullopt if it is not there.
  std::optional<YAML::Node> Take(const std::string& name) {
    const auto found = fields_.find(name);
    if (found == fields_.end()) return std::nullopt;
    found->second.taken = true;
    return found->second.node;
  }

  std::optional<std::string> Text(const std::string& name) {
    const auto node = Take(name);
    if (!node.has_value()) return std::nullopt;
    if (!node->IsScalar() || node->Scalar().empty()) {
      Error(name, "must be a text that is not empty");
      return std::nullopt;
    }
    return node->Scalar();
  }

  void Bool(const std::string& name, bool* value) {
    const auto node = Take(name);
    if (!node.has_value()) return;
    if (node->IsScalar() && (node->Scalar() == "true" || node->Scalar() == "false")) {
      *value = node->Scalar() == "true";
    } else {
      Error(name, "must be true or false");
    }
  }

  void Int(const std::string& name, int least, int most, int* value) {
    const auto node = Take(name);
    if (!node.has_value()) return;
    int number = 0;
    if (node->IsScalar() && ParseInteger(node->Scalar(), &number) && number >= least && number <= most) {
      *value = number;
    } else {
      Error(name, StrCat("must be ", least, " to ", most));
    }
  }

  void Duration(const std::string& name, absl::Duration least, absl::Duration most, absl::Duration* value) {
    const auto node = Take(name);
    if (!node.has_value()) return;
    absl::Duration duration;
    if (node->IsScalar() && absl::ParseDuration(node->Scalar(), &duration) && duration >= least &&
        duration <= most) {
      *value = duration;
    } else {
      Error(name, StrCat("must be a duration of ", absl::FormatDuration(least), " to ",
                         absl::FormatDuration(most), ", like 30s or 5m"));
    }
  }

  // Complains about fields that were not taken. `why`, if any, is told of those that another kind of store
  // has.
  void Finish(const std::set<std::string>& of_other_kind, std::string_view why) {
    for (const auto& [name, field] : fields_) {
      if (field.taken) continue;
      if (InlineSecretNames().count(name) != 0) {
        Add(field.line, name,
            "secrets do not belong into this file: name an environment variable (access_key_env, "
            "secret_key_env, "
            "session_token_env) or a file under 'credentials'");
      } else if (of_other_kind.count(name) != 0) {
        Add(field.line, name, why);
      } else {
        Add(field.line, name, "is not known here");
      }
    }
  }

  const std::string& path() const { return path_; }

 private:
  struct Field {
    YAML::Node node;
    int line;
    bool taken;
  };

  void Add(int line, const std::string& name, std::string_view what) {
    std::string path = path_;
    if (!name.empty()) path += (path.empty() ? "" : ".") + name;
    if (path.empty()) path = "file";
    errors_->Add(StrCat(file_, ":", line + 1, ": ", path), what);
  }

  const std::string path_;
  const std::string& file_;
  const int line_;
  FieldErrors* const errors_;
  std::map<std::string, Field> fields_;
};

// The value of the environment variable that a field names.
std::string FromEnvironment(Fields& fields, const std::string& field, bool required) {
  const auto variable = fields.Text(field);
  if (!variable.has_value()) {
    if (required && !fields.Has(field)) fields.Error(field, "is missing");
    return "";
  }
  const char* value = std::getenv(variable->c_str());
  if (value == nullptr || *value == '\0') {
    // Its name is not quoted: it may be a secret that somebody pasted there.
    fields.Error(field, "the environment variable that it names is not set, or empty");
    return "";
  }
  return value;
}

// Reads "name: value" or "name = value" lines; says what is wrong without quoting anything of the file.
absl::Status ReadCredentialsFile(const std::string& path, StoreCredentials* credentials) {
  DROVER_ASSIGN_OR_RETURN(std::string text, ReadFile(path, kMaxCredentialsFile));
  const Secret wipe_at_the_end(text);
  std::map<std::string, std::string> values;
  int line = 0;
  int sections = 0;
  for (std::string_view raw : Split(text, '\n')) {
    ++line;
    const std::string_view content = StripWhitespace(raw);
    if (content.empty() || content.front() == '#' || content.front() == ';' || content == "---") continue;
    if (content.front() == '[') {
      if (++sections > 1) {
        return absl::InvalidArgumentError(
            StrCat(path, ":", line, ": more than one section; use one file per store"));
      }
      continue;
    }
    const size_t separator = content.find_first_of(":=");
    if (separator == content.npos) {
      return absl::InvalidArgumentError(StrCat(path, ":", line, ": must be 'name: value' or 'name = value'"));
    }
    std::string_view name = StripWhitespace(content.substr(0, separator));
    std::string_view value = StripWhitespace(content.substr(separator + 1));
    ConsumePrefix(&name, "aws_");
    if (value.size() >= 2 && (value.front() == '"' || value.front() == '\'') &&
        value.back() == value.front()) {
      value = value.substr(1, value.size() - 2);
    }
    if (name != "access_key_id" && name != "secret_access_key" && name != "session_token") {
      return absl::InvalidArgumentError(StrCat(
          path, ":", line,
          ": only access_key_id, secret_access_key and session_token (or with aws_ before it) belong here"));
    }
    if (!values.emplace(name, value).second) {
      return absl::InvalidArgumentError(StrCat(path, ":", line, ": ", name, " is there twice"));
    }
  }
  for (const char* name : {"access_key_id", "secret_access_key"}) {
    if (values[name].empty()) return absl::InvalidArgumentError(StrCat(path, ": ", name, " is missing"));
  }
  credentials->access_key_id = values["access_key_id"];
  credentials->secret_access_key = Secret(std::move(values["secret_access_key"]));
  credentials->session_token = Secret(std::move(values["session_token"]));
  return absl::OkStatus();
}

class Reader {
 public:
  Reader(const std::string& file, FieldErrors* errors) : file_(file), errors_(errors) {}

  std::vector<StoreConfig> ReadAll(const YAML::Node& root) {
    std::vector<StoreConfig> stores;
    Fields top(root, "", file_, errors_);
    const auto list = top.Take("stores");
    top.Finish({}, "");
    if (!list.has_value() || !list->IsSequence()) {
      if (root.IsMap()) top.Error("stores", "must be a list of stores");
      return stores;
    }
    if (list->size() > kMaxStores) {
      top.Error("stores", StrCat("more than ", kMaxStores));
      return stores;
    }
    std::set<std::string> names;
    for (size_t i = 0; i < list->size(); ++i) {
      Fields fields((*list)[i], StrCat("stores[", i, "]"), file_, errors_);
      StoreConfig store = ReadStore(fields);
      if (!store.name.empty() && !names.insert(store.name).second) {
        fields.Error("name", "another store has this name");
      }
      stores.push_back(std::move(store));
    }
    return stores;
  }

 private:
  StoreConfig ReadStore(Fields& fields) {
    StoreConfig store;
    const auto name = fields.Text("name");
    if (name.has_value() && IsName(*name)) {
      store.name = *name;
    } else if (name.has_value() || !fields.Has("name")) {
      fields.Error("name", StrCat("must be 1 to ", kMaxNameLength,
                                  " of a-z, 0-9, '-' and '_', first a letter or digit"));
    }
    const auto kind = fields.Text("kind");
    if (kind == "s3") {
      ReadS3(fields, store);
      fields.Finish({"root"}, "only stores of kind file have it");
    } else if (kind == "file") {
      ReadFileStore(fields, store);
      fields.Finish(
          {"endpoint", "region", "path_style", "credentials", "ca_file", "max_connections", "timeouts"},
          "only stores of kind s3 have it");
    } else {
      fields.Error("kind", "must be s3 or file");
    }
    return store;
  }

  void ReadS3(Fields& fields, StoreConfig& store) {
    if (const auto endpoint = fields.Text("endpoint"); endpoint.has_value()) {
      store.endpoint = *endpoint;
      if (auto origin = ParseHttpOrigin(*endpoint); origin.ok()) {
        store.origin = *std::move(origin);
      } else {
        fields.Error("endpoint", FromAbsl(origin.status().message()));
      }
    } else if (!fields.Has("endpoint")) {
      fields.Error("endpoint", "is missing");
    }
    if (const auto region = fields.Text("region"); region.has_value()) {
      const bool good = region->size() <= 64 && std::all_of(region->begin(), region->end(), [](char c) {
                          return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.';
                        });
      if (good) {
        store.region = *region;
      } else {
        fields.Error("region", "must be at most 64 of letters, digits, '-', '_' and '.'");
      }
    }
    fields.Bool("path_style", &store.path_style);
    if (!store.path_style && !store.origin.host.empty()) {
      const bool address = store.origin.host.find_first_not_of("0123456789.") == std::string::npos ||
                           store.origin.host.find(':') != std::string::npos;
      if (address)
        fields.Error("path_style", "must be true where the endpoint is an address: buckets can't precede it");
    }
    fields.Int("max_connections", 1, kMaxConnections, &store.max_connections);
    if (const auto ca_file = fields.Text("ca_file"); ca_file.has_value()) {
      store.ca_file = Beside(*ca_file);
      if (!std::ifstream(store.ca_file)) fields.Error("ca_file", StrCat("can't read ", store.ca_file));
    }
    if (const auto timeouts = fields.Take("timeouts"); timeouts.has_value()) {
      Fields inner(*timeouts, fields.path() + ".timeouts", file_, errors_);
      inner.Duration("connect", absl::Milliseconds(100), absl::Minutes(5), &store.connect_timeout);
      inner.Duration("idle", absl::Milliseconds(100), absl::Hours(1), &store.idle_timeout);
      inner.Duration("request", absl::Milliseconds(100), absl::Hours(24), &store.request_timeout);
      inner.Finish({}, "");
    }
    const auto credentials = fields.Take("credentials");
    if (!credentials.has_value()) {
      fields.Error("credentials", "is missing ('credentials: {anonymous: true}' to sign nothing)");
      return;
    }
    Fields inner(*credentials, fields.path() + ".credentials", file_, errors_);
    ReadCredentials(inner, store.credentials);
  }

  void ReadCredentials(Fields& fields, StoreCredentials& credentials) {
    const bool by_file = fields.Has("file");
    const bool by_environment =
        fields.Has("access_key_env") || fields.Has("secret_key_env") || fields.Has("session_token_env");
    fields.Bool("anonymous", &credentials.anonymous);
    const int ways = (by_file ? 1 : 0) + (by_environment ? 1 : 0) + (credentials.anonymous ? 1 : 0);
    if (ways > 1) {
      fields.Error(by_file ? "file" : "anonymous",
                   "one of file, environment variables and anonymous, not several");
    }
    if (by_file) {
      if (const auto file = fields.Text("file"); file.has_value()) {
        if (absl::Status status = ReadCredentialsFile(Beside(*file), &credentials); !status.ok()) {
          fields.Error("file", FromAbsl(status.message()));
        }
      }
    }
    if (by_environment) {
      credentials.access_key_id = FromEnvironment(fields, "access_key_env", true);
      credentials.secret_access_key = Secret(FromEnvironment(fields, "secret_key_env", true));
      credentials.session_token = Secret(FromEnvironment(fields, "session_token_env", false));
    }
    fields.Finish({}, "");
    if (ways == 0) {
      fields.Error("", "name access_key_env and secret_key_env, or a file, or say anonymous: true");
    }
  }

  void ReadFileStore(Fields& fields, StoreConfig& store) {
    store.kind = StoreKind::kFile;
    const auto root = fields.Text("root");
    if (!root.has_value() || root->front() != '/') {
      fields.Error("root", "must be an absolute path");
      return;
    }
    store.root = *root;
    while (store.root.size() > 1 && store.root.back() == '/') store.root.pop_back();
  }

  // A relative path is one beside stores.yaml, wherever the process was started.
  std::string Beside(const std::string& path) const {
    return path.front() == '/' ? path : Directory(file_) + path;
  }

  const std::string& file_;
  FieldErrors* const errors_;
};

}  // namespace

std::string StoreConfig::Fingerprint() const {
  // From the parsed endpoint, so that a slash at its end or capitals in it make no other store.
  const std::string what =
      kind == StoreKind::kFile
          ? StrCat("file\n", root)
          : StrCat("s3\n", origin.tls ? "https" : "http", "\n", origin.host, "\n", origin.port, "\n",
                   origin.path, "\n", region, "\n", path_style ? "path" : "virtual");
  return Sha256Hex(what);
}

absl::StatusOr<Stores> Stores::Load(const std::string& path) {
  auto text = ReadFile(path, 4 << 20);
  if (!text.ok()) return Error(text.status().code(), "STORES_INVALID", FromAbsl(text.status().message()));
  return Parse(*text, path);
}

absl::StatusOr<Stores> Stores::Parse(std::string_view text, const std::string& path) {
  Stores result;
  FieldErrors errors;
  try {
    result.stores_ = Reader(path, &errors).ReadAll(YAML::Load(std::string(text)));
  } catch (const YAML::Exception& error) {
    return Error(absl::StatusCode::kInvalidArgument, "STORES_INVALID",
                 StrCat(path, ":", error.mark.line + 1, ": not YAML: ", error.msg));
  }
  if (!errors.empty()) return errors.ToStatus(absl::StatusCode::kInvalidArgument, "STORES_INVALID");
  return result;
}

const StoreConfig* Stores::Find(std::string_view name) const {
  const auto found =
      std::find_if(stores_.begin(), stores_.end(), [&](const StoreConfig& s) { return s.name == name; });
  return found == stores_.end() ? nullptr : &*found;
}

HttpClientOptions HttpOptionsFor(const StoreConfig& config) {
  HttpClientOptions options;
  options.max_connections = config.max_connections;
  options.connect_timeout = config.connect_timeout;
  options.idle_timeout = config.idle_timeout;
  options.total_timeout = config.request_timeout;
  options.ca_file = config.ca_file;
  return options;
}

}  // namespace drover

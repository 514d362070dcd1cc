// stores.yaml: the object stores that an operator makes known to controllers and workers. Jobs name them.
//
//   stores:
//     - name: archive                      # 1 to 63 of a-z 0-9 - _, first a letter or digit
//       kind: s3
//       endpoint: https://s3.eu-central-1.amazonaws.com
//       region: eu-central-1               # default us-east-1
//       path_style: false                  # default true: https://endpoint/bucket/key
//       credentials:                       # names of environment variables, or a file; never a secret itself
//         access_key_env: ARCHIVE_ACCESS_KEY
//         secret_key_env: ARCHIVE_SECRET_KEY
//         session_token_env: ARCHIVE_SESSION_TOKEN   # optional
//       # credentials: {file: /run/secrets/archive}  # with lines "access_key_id: ...",
//       #          # "secret_access_key: ..." and perhaps "session_token: ..."; "=" does as well as ":"
//       # credentials: {anonymous: true}             # requests are not signed
//       ca_file: /etc/ssl/our-ca.pem       # default: the system's authorities
//       max_connections: 64                # per process, 1 to 4096
//       timeouts: {connect: 10s, idle: 30s, request: 5m}
//     - name: local
//       kind: file
//       root: /srv/drover                  # bucket and key are a path beneath it
//
// Unknown fields are errors, and so is a field of the other kind.
#ifndef DROVER_COMMON_OBJECTSTORE_STORES_H_
#define DROVER_COMMON_OBJECTSTORE_STORES_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/http/client.h"
#include "common/http/url.h"
#include "common/objectstore/secret.h"

namespace drover {

enum class StoreKind { kS3, kFile };

struct StoreCredentials {
  // No signature at all; the rest is empty then.
  bool anonymous = false;
  std::string access_key_id;
  Secret secret_access_key;
  Secret session_token;  // may be empty
};

struct StoreConfig {
  std::string name;
  StoreKind kind = StoreKind::kS3;

  // kS3.
  std::string endpoint;  // as written
  HttpOrigin origin;     // the same, parsed
  std::string region = "us-east-1";
  bool path_style = true;
  StoreCredentials credentials;
  std::string ca_file;
  int max_connections = 64;
  absl::Duration connect_timeout = absl::Seconds(10);
  absl::Duration idle_timeout = absl::Seconds(30);
  absl::Duration request_timeout = absl::Minutes(5);

  // kFile: absolute.
  std::string root;

  // Lower-case hexadecimal SHA-256 over what makes this store this store (kind, endpoint, region, path style;
  // for files kind and root), never over credentials: a job pins it, so that a worker whose store of that
  // name is another one gets none of the job.
  std::string Fingerprint() const;

  // "s3" or "file".
  std::string_view KindName() const { return kind == StoreKind::kS3 ? "s3" : "file"; }
};

// Immutable once loaded; thread-safe.
class Stores {
 public:
  // Reads the file and the credentials that it refers to. Errors are INVALID_ARGUMENT (NOT_FOUND if there is
  // no such file) and name file, line and field; never a secret.
  static absl::StatusOr<Stores> Load(const std::string& path);
  // The same from a text; `path` is for the messages.
  static absl::StatusOr<Stores> Parse(std::string_view text, const std::string& path);

  // Null if there is none of that name. Valid as long as this object.
  const StoreConfig* Find(std::string_view name) const;
  // In the order of the file.
  const std::vector<StoreConfig>& list() const { return stores_; }

 private:
  std::vector<StoreConfig> stores_;
};

// The HTTP client's options for a kS3 store: one client per store.
HttpClientOptions HttpOptionsFor(const StoreConfig& config);

}  // namespace drover

#endif  // DROVER_COMMON_OBJECTSTORE_STORES_H_

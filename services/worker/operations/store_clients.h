// The clients of the stores that this worker can reach, one of each, all on one io_context.
#ifndef DROVER_SERVICES_WORKER_OPERATIONS_STORE_CLIENTS_H_
#define DROVER_SERVICES_WORKER_OPERATIONS_STORE_CLIENTS_H_

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/clock/clock.h"
#include "common/http/client.h"
#include "common/objectstore/s3_client.h"
#include "common/objectstore/stores.h"

namespace drover {

// Belongs to the thread of its io_context.
class StoreClients {
 public:
  // One client for each store of kind s3 in `stores`. Errors are those of HttpClient::Create, with the
  // store's name.
  static absl::StatusOr<std::unique_ptr<StoreClients>> Create(boost::asio::io_context& io, const Clock& clock,
                                                              const Stores& stores);
  // The client of a store; null if there is none of that name, or if it is not of kind s3.
  S3Client* Find(std::string_view store) const;
  // Ends all requests.
  void Shutdown();

 private:
  struct Client {
    std::unique_ptr<HttpClient> http;
    std::unique_ptr<S3Client> s3;
  };
  StoreClients() = default;
  std::map<std::string, Client, std::less<>> clients_;
};

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_OPERATIONS_STORE_CLIENTS_H_

#include "services/worker/operations/store_clients.h"

#include <utility>

#include "common/status/status.h"
#include "common/strings/strings.h"

namespace drover {

absl::StatusOr<std::unique_ptr<StoreClients>> StoreClients::Create(boost::asio::io_context& io,
                                                                   const Clock& clock, const Stores& stores) {
  auto clients = std::unique_ptr<StoreClients>(new StoreClients());
  for (const StoreConfig& config : stores.list()) {
    if (config.kind != StoreKind::kS3) continue;
    absl::StatusOr<std::unique_ptr<HttpClient>> http = HttpClient::Create(io, clock, HttpOptionsFor(config));
    if (!http.ok()) {
      return absl::Status(http.status().code(), StrCat("store ", config.name, ": ", http.status().message()));
    }
    Client& client = clients->clients_[config.name];
    client.http = *std::move(http);
    client.s3 = std::make_unique<S3Client>(config, *client.http, clock);
  }
  return clients;
}

S3Client* StoreClients::Find(std::string_view store) const {
  const auto it = clients_.find(store);
  return it == clients_.end() ? nullptr : it->second.s3.get();
}

void StoreClients::Shutdown() {
  for (auto& [name, client] : clients_) client.http->Shutdown();
}

}  // namespace drover

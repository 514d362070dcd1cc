// LeaseTransport over gRPC: the bidi stream WorkerService.Work, by the callback API, kept thin. gRPC's
// threads only post to the io_context; everything else happens on its thread. One message is read at a time,
// so a worker that is slow to take them holds the controller back; the write queue is bounded by what
// LeaseClient may leave unacknowledged.
#ifndef DROVER_SERVICES_WORKER_LEASE_WORK_STREAM_H_
#define DROVER_SERVICES_WORKER_LEASE_WORK_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "services/worker/lease/lease_client.h"

namespace boost::asio {
class io_context;
}  // namespace boost::asio

namespace drover {

// Most bytes of a message, both ways.
inline constexpr int kMaxWorkMessageBytes = 8 << 20;

// Belongs to the one thread that runs its io_context.
class WorkStream final : public LeaseTransport {
 public:
  // What comes in; called on the io_context's thread, never from within a call of LeaseTransport.
  struct Events {
    std::function<void(const v1::WorkResponse&)> on_message;
    std::function<void(const absl::Status&)> on_broken;
  };

  // `controllers` are gRPC addresses, at least one. No connection is made before Open.
  WorkStream(boost::asio::io_context& io, std::vector<std::string> controllers, Events events);
  // Cancels the stream and waits until gRPC has let go of it (which it does at once).
  ~WorkStream() override;
  WorkStream(const WorkStream&) = delete;
  WorkStream& operator=(const WorkStream&) = delete;

  void Open(size_t controller) override;
  void Send(std::shared_ptr<const v1::WorkRequest> message) override;
  bool status_waiting() const override;
  void Close() override;

 private:
  class Call;
  class Channels;

  boost::asio::io_context& io_;
  const Events events_;
  const std::unique_ptr<Channels> channels_;
  std::shared_ptr<Call> call_;  // the open stream
};

}  // namespace drover

#endif  // DROVER_SERVICES_WORKER_LEASE_WORK_STREAM_H_

// For one coroutine that waits for another on the same thread.
#ifndef DROVER_COMMON_HTTP_EVENT_H_
#define DROVER_COMMON_HTTP_EVENT_H_

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace drover {

// Lets one coroutine wait until it is woken, once. Not woken, it waits for ever. Belongs to the thread of its
// executor.
class Event {
 public:
  explicit Event(const boost::asio::any_io_executor& executor)
      : timer_(executor, boost::asio::steady_timer::time_point::max()) {}

  // Returns when Set() was called, before or meanwhile.
  boost::asio::awaitable<void> Wait() {
    if (!set_) co_await timer_.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
  }
  // The waiting coroutine goes on later, from the event loop. A second call does nothing.
  void Set() {
    set_ = true;
    timer_.cancel();
  }

 private:
  boost::asio::steady_timer timer_;  // never comes: cancelling it is the wake-up
  bool set_ = false;
};

}  // namespace drover

#endif  // DROVER_COMMON_HTTP_EVENT_H_

// A string that must not be shown.
#ifndef DROVER_COMMON_OBJECTSTORE_SECRET_H_
#define DROVER_COMMON_OBJECTSTORE_SECRET_H_

#include <ostream>
#include <string>
#include <utility>

namespace drover {

// Does not convert to a string, does not print, does not format: whoever needs the text says Reveal(), which
// is easy to search for. Overwritten when it dies.
class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string text) : text_(std::move(text)) {}
  Secret(const Secret&) = default;
  Secret& operator=(const Secret&) = default;
  Secret(Secret&&) = default;
  Secret& operator=(Secret&&) = default;
  ~Secret();

  const std::string& Reveal() const { return text_; }
  bool empty() const { return text_.empty(); }

  friend std::ostream& operator<<(std::ostream&, const Secret&) = delete;

 private:
  std::string text_;
};

}  // namespace drover

#endif  // DROVER_COMMON_OBJECTSTORE_SECRET_H_

#include "common/objectstore/secret.h"

#include <openssl/crypto.h>

namespace drover {

Secret::~Secret() {
  // All that it ever held: a text that was moved away may have left its bytes behind.
  text_.resize(text_.capacity());
  OPENSSL_cleanse(text_.data(), text_.size());
}

}  // namespace drover

#include "common/objectstore/secret.h"

#include <openssl/crypto.h>

namespace drover {

Secret::~Secret() { OPENSSL_cleanse(text_.data(), text_.size()); }

}  // namespace drover

#include "common/http/cancel.h"

namespace drover {

CancelToken::~CancelToken() {
  // A hook that outlives its token is a bug of its owner; it must at least not write into freed memory.
  while (first_ != nullptr) first_->Unlink();
}

void CancelToken::Cancel() {
  if (cancelled_) return;
  cancelled_ = true;
  while (first_ != nullptr) {
    Hook* hook = first_;
    hook->Unlink();
    // Moved out, since the action may destroy the hook.
    const std::function<void()> action = std::move(hook->action_);
    action();
  }
}

CancelToken::Hook::Hook(const CancelToken* token, std::function<void()> action)
    : token_(token), action_(std::move(action)) {
  if (token_ == nullptr) return;
  if (token_->cancelled_) {
    token_ = nullptr;
    return;
  }
  previous_ = token_->last_;
  (previous_ != nullptr ? previous_->next_ : token_->first_) = this;
  token_->last_ = this;
}

void CancelToken::Hook::Unlink() {
  if (token_ == nullptr) return;
  (previous_ != nullptr ? previous_->next_ : token_->first_) = next_;
  (next_ != nullptr ? next_->previous_ : token_->last_) = previous_;
  token_ = nullptr;
  previous_ = nullptr;
  next_ = nullptr;
}

}  // namespace drover

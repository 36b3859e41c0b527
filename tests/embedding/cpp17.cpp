// Compiled as C++17.

#include "cpp17.hpp"

#include "cpp17_router.hpp"

#if __cplusplus >= 202002L
#error "this must be compiled as C++17"
#endif

std::vector<std::int32_t> best_two(const std::vector<float>& logits) {
  const engine17::Router router("topk:k=2", static_cast<int>(logits.size()));
  std::vector<std::int32_t> ids(2);
  std::vector<float> weights(2);
  std::int32_t count = 0;
  router.route(logits.data(), 1, ids.data(), weights.data(), &count);
  return ids;
}

std::string refusal(const std::string& policy) {
  try {
    engine17::Router(policy, 8);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

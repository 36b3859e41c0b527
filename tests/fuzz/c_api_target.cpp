// fdroute/c_api.h: sequences of calls with arguments of any value, over buffers of exactly the size
// that the arguments ask for. No call may end in an internal error, and what fails says why.

#include <fdroute/c_api.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/fuzz.hpp"

namespace c_api_target {

/// What a handful of bytes makes of each argument.
class Calls {
 public:
  explicit Calls(std::string_view input) : source_(input) {}
  Calls(const Calls&) = delete;
  Calls& operator=(const Calls&) = delete;
  ~Calls() {
    for (fdroute_null* null : nulls_) fdroute_null_destroy(null);
    for (fdroute_router* router : routers_) fdroute_router_destroy(router);
  }

  void run() {
    constexpr int most_calls = 24;
    for (int call = 0; call < most_calls && !source_.empty(); ++call) {
      switch (source_.below(11)) {
        case 0:
          return_of(create_table());
          break;
        case 1:
          return_of(create_conformal());
          break;
        case 2:
          return_of(create_per_expert());
          break;
        case 3:
          return_of(create_weighted());
          break;
        case 4:
        case 5:
          return_of(create_router());
          break;
        case 6:
          return_of(route_padded());
          break;
        case 7:
          return_of(route_csr());
          break;
        case 8:
          return_of(route_dense());
          break;
        case 9:
          return_of(route_bitmask());
          break;
        default:
          return_of(test());
      }
    }
  }

 private:
  static void return_of(fdroute_status status) {
    const std::string_view message = fdroute_last_error();
    fuzz::require(status >= FDROUTE_OK && status <= FDROUTE_INTERNAL_ERROR, "a status is known");
    fuzz::require(status != FDROUTE_INTERNAL_ERROR, message);
    fuzz::require((status == FDROUTE_OK) == message.empty(), "what fails says why");
    if (status != FDROUTE_OK) fuzz::require(fuzz::is_message(message, 4000), message);
  }

  std::vector<double> doubles(std::size_t n) {
    std::vector<double> values(n);
    const bool small = source_.byte() % 2 == 0;
    for (double& value : values)
      value = small ? source_.number<std::int8_t>() / 16.0 : source_.number<double>();
    return values;
  }

  // A pointer to values, or a null pointer once in a while.
  template <class T>
  T* maybe(std::vector<T>& values) {
    return source_.byte() == 1 ? nullptr : values.data();
  }

  const char* score_name() {
    static constexpr const char* names[] = {"logit", "log_softmax", "zscore", "", "x", nullptr};
    return names[source_.below(6)];
  }

  const fdroute_null* null() {
    const int place = source_.below(static_cast<int>(nulls_.size()) + 1);
    return place == 0 ? nullptr : nulls_[static_cast<std::size_t>(place - 1)];
  }

  const fdroute_router* router() {
    if (routers_.empty()) return nullptr;
    return routers_[static_cast<std::size_t>(source_.below(static_cast<int>(routers_.size())))];
  }

  fdroute_status keep(fdroute_status status, fdroute_null* const& made) {
    fuzz::require((status == FDROUTE_OK) == (made != nullptr), "what succeeds makes one");
    if (made != nullptr) nulls_.push_back(made);
    return status;
  }

  fdroute_status create_table() {
    const auto n = static_cast<std::size_t>(source_.below(8));
    std::vector<double> score = doubles(n);
    std::vector<double> log_sf = doubles(n);
    if (source_.byte() % 2 == 0) {
      std::sort(score.begin(), score.end());
      std::sort(log_sf.rbegin(), log_sf.rend());
      for (double& value : log_sf) value = std::min(value, 0.0);
    }
    fdroute_null* made = nullptr;
    const char* const name = score_name();
    const double* const scores = maybe(score);
    return keep(fdroute_null_create(scores, maybe(log_sf), n, name, &made), made);
  }

  fdroute_status create_conformal() {
    const auto n = static_cast<std::size_t>(source_.below(8));
    std::vector<double> sample = doubles(n);
    fdroute_null* made = nullptr;
    const char* const name = score_name();
    return keep(fdroute_null_create_conformal(maybe(sample), n, name, &made), made);
  }

  fdroute_status create_per_expert() {
    std::vector<const fdroute_null*> nulls(static_cast<std::size_t>(source_.below(9)));
    const fdroute_null* const one = null();
    for (const fdroute_null*& of_expert : nulls) of_expert = source_.byte() % 8 == 0 ? null() : one;
    fdroute_null* made = nullptr;
    const std::size_t n = nulls.size();
    return keep(fdroute_null_create_per_expert(maybe(nulls), n, &made), made);
  }

  fdroute_status create_weighted() {
    std::vector<double> prior = doubles(static_cast<std::size_t>(source_.below(9)));
    if (source_.byte() % 2 == 0) std::fill(prior.begin(), prior.end(), 1.0);
    fdroute_null* made = nullptr;
    const fdroute_null* const base = null();
    const std::size_t n = prior.size();
    return keep(fdroute_null_create_weighted(base, maybe(prior), n, &made), made);
  }

  fdroute_status create_router() {
    static constexpr const char* policies[] = {
        "topk:k=2",
        "bh:alpha=0.2,null=normal",
        "bh:alpha=0.2",
        "holm:alpha=0.3,null=conformal",
        "hc:null=logistic,score=logit",
        "preset:deepseek-v3,n_group=2,topk_group=1,num_experts_per_tok=2",
        "bh:alpha=0.3,null=per_expert",
        "top_p:p=0.7,ranking=sigmoid,weights=sigmoid"};
    const int choice = source_.below(10);
    std::string policy(choice < 8 ? policies[choice] : "");
    if (choice >= 8) policy = source_.until('\0');
    const std::int32_t experts =
        source_.byte() == 1 ? source_.number<std::int32_t>() : source_.below(40) + 1;
    // A bias has as many values as there are experts.
    std::vector<float> bias(experts > 0 && experts <= 1024 ? static_cast<std::size_t>(experts) : 0);
    for (float& value : bias) value = static_cast<float>(source_.number<std::int8_t>()) / 64.0F;
    const bool biased = experts <= 1024 && source_.byte() % 2 == 0;
    fdroute_router* made = nullptr;
    const fdroute_null* const by = null();
    const fdroute_status status =
        fdroute_router_create(policy.c_str(), experts, by, biased ? bias.data() : nullptr, &made);
    fuzz::require((status == FDROUTE_OK) == (made != nullptr), "what succeeds makes one");
    if (made == nullptr) return status;
    routers_.push_back(made);
    fuzz::require(fdroute_router_experts(made) == experts, "a router has its experts");
    fuzz::require(fdroute_router_capacity(made) >= 1 && fdroute_router_capacity(made) <= experts,
                  "a capacity is 1 to all experts");
    fuzz::require(fdroute_router_policy(made)[0] != '\0', "a router has a policy");
    return status;
  }

  // Logits whose rows end where their memory ends.
  struct Logits {
    std::vector<std::byte> bytes{};
    std::vector<std::uint64_t> masks{};
    std::vector<std::uint8_t> skip{};
    fdroute_logits view{};
  };

  Logits logits(std::int64_t experts) {
    Logits rows;
    fdroute_logits& view = rows.view;
    view.dtype = source_.byte() == 1 ? source_.number<std::int32_t>() : source_.below(3);
    view.tokens = source_.byte() == 1 ? -1 : source_.below(20);
    view.expert_stride = 1;
    view.stride = experts;
    if (source_.byte() % 2 == 0) {
      view.stride = source_.below(64) - 20;
      view.expert_stride = source_.below(7) - 3;
    }
    const std::int64_t tokens = std::max<std::int64_t>(view.tokens, 0);
    const auto span = [](std::int64_t n, std::int64_t stride) {
      return n > 0 ? (n - 1) * stride : 0;
    };
    const std::int64_t across = span(tokens, view.stride);
    const std::int64_t along = span(experts, view.expert_stride);
    const std::int64_t lowest =
        std::min<std::int64_t>(across, 0) + std::min<std::int64_t>(along, 0);
    const std::int64_t highest =
        std::max<std::int64_t>(across, 0) + std::max<std::int64_t>(along, 0);
    const std::int64_t size = view.dtype == FDROUTE_F32 ? 4 : 2;
    rows.bytes.resize(tokens > 0 ? static_cast<std::size_t>((highest - lowest + 1) * size) : 0);
    const bool small = source_.byte() % 2 == 0;
    for (std::size_t i = 0; i < rows.bytes.size(); ++i) {
      const std::uint8_t byte = source_.byte();
      rows.bytes[i] = std::byte(small && i % 4 == 3 ? (byte & 0x80) | 0x3F : byte);
    }
    view.data = rows.bytes.data() - lowest * size;
    if (rows.bytes.empty()) view.data = nullptr;
    if (source_.byte() % 4 == 0) {
      const std::int64_t words = (experts + 63) / 64;
      view.mask_stride = source_.byte() % 4 == 0 ? 0 : words + source_.below(3) - 1;
      const std::int64_t n = view.mask_stride <= 0 ? words : tokens * view.mask_stride;
      rows.masks.resize(static_cast<std::size_t>(std::max(n, words)));
      for (std::uint64_t& mask : rows.masks) mask = source_.number<std::uint64_t>();
      view.masks = rows.masks.data();
    }
    if (source_.byte() % 4 == 0) {
      rows.skip.resize(static_cast<std::size_t>(tokens));
      for (std::uint8_t& skip : rows.skip) skip = source_.byte() % 3 == 0;
      view.skip = rows.skip.data();
    }
    return rows;
  }

  static std::size_t bytes_of(std::int32_t id_type) {
    return id_type == FDROUTE_I64 ? 8 : id_type == FDROUTE_I16 ? 2 : id_type == FDROUTE_U8 ? 1 : 4;
  }

  static std::size_t product(std::int64_t a, std::int64_t b) {
    return a > 0 && b > 0 ? static_cast<std::size_t>(a * b) : 0;
  }

  fdroute_status route_padded() {
    const fdroute_router* const by = router();
    const std::int64_t experts = by != nullptr ? fdroute_router_experts(by) : 4;
    const Logits rows = logits(experts);
    fdroute_padded out{};
    out.id_type = source_.byte() == 1 ? 9 : source_.below(4);
    out.capacity = (by != nullptr ? fdroute_router_capacity(by) : 2) + source_.below(5) - 2;
    out.padding = source_.byte() == 1 ? 7 : source_.below(2);
    const std::size_t places = product(rows.view.tokens, out.capacity);
    const std::size_t tokens = product(rows.view.tokens, 1);
    std::vector<std::byte> ids(places * bytes_of(out.id_type));
    std::vector<float> weights(places);
    std::vector<std::int32_t> counts(tokens);
    std::vector<std::uint8_t> status(tokens);
    out.experts = maybe(ids);
    out.weights = maybe(weights);
    out.counts = maybe(counts);
    out.status = maybe(status);
    if (source_.byte() % 4 != 0) return fdroute_route_padded(by, &rows.view, &out);
    if (rows.view.expert_stride != 1 || out.id_type != FDROUTE_I32 || rows.view.stride < experts)
      return FDROUTE_OK == fdroute_route_padded(nullptr, &rows.view, &out)
                 ? FDROUTE_INTERNAL_ERROR
                 : FDROUTE_INVALID_ARGUMENT;
    return fdroute_route(by, rows.view.data, rows.view.dtype, rows.view.tokens, rows.view.stride,
                         out.capacity, out.padding, static_cast<std::int32_t*>(out.experts),
                         out.weights, out.counts, out.status);
  }

  fdroute_status route_csr() {
    const fdroute_router* const by = router();
    const Logits rows = logits(by != nullptr ? fdroute_router_experts(by) : 4);
    const std::int64_t capacity = by != nullptr ? fdroute_router_capacity(by) : 2;
    const std::size_t tokens = product(rows.view.tokens, 1);
    fdroute_csr out{};
    out.id_type = source_.byte() == 1 ? 9 : source_.below(4);
    out.places = static_cast<std::int64_t>(tokens) * capacity + source_.below(5) - 2;
    std::vector<std::int64_t> offsets(tokens + 1);
    std::vector<std::byte> ids(product(out.places, 1) * bytes_of(out.id_type));
    std::vector<float> weights(product(out.places, 1));
    std::vector<std::uint8_t> status(tokens);
    out.offsets = maybe(offsets);
    out.experts = maybe(ids);
    out.weights = maybe(weights);
    out.status = maybe(status);
    return fdroute_route_csr(by, &rows.view, &out);
  }

  fdroute_status route_dense() {
    const fdroute_router* const by = router();
    const std::int64_t experts = by != nullptr ? fdroute_router_experts(by) : 4;
    const Logits rows = logits(experts);
    const std::size_t tokens = product(rows.view.tokens, 1);
    fdroute_dense out{};
    out.stride = experts + source_.below(5) - 2;
    std::vector<float> weights(product(rows.view.tokens, out.stride));
    std::vector<std::int32_t> counts(tokens);
    std::vector<std::uint8_t> status(tokens);
    out.weights = maybe(weights);
    out.counts = maybe(counts);
    out.status = maybe(status);
    return fdroute_route_dense(by, &rows.view, &out);
  }

  fdroute_status route_bitmask() {
    const fdroute_router* const by = router();
    const std::int64_t experts = by != nullptr ? fdroute_router_experts(by) : 4;
    const Logits rows = logits(experts);
    const std::size_t tokens = product(rows.view.tokens, 1);
    fdroute_bitmask out{};
    out.stride = (experts + 63) / 64 + source_.below(4) - 1;
    std::vector<std::uint64_t> words(product(rows.view.tokens, out.stride));
    std::vector<std::int32_t> counts(tokens);
    std::vector<std::uint8_t> status(tokens);
    out.words = maybe(words);
    out.counts = maybe(counts);
    out.status = maybe(status);
    return fdroute_route_bitmask(by, &rows.view, &out);
  }

  fdroute_status test() {
    static constexpr const char* rules[] = {"bh:alpha=0.1",     "by:alpha=0.3", "holm:alpha=0.2",
                                            "hommel:alpha=0.3", "hc:level=0.5", "storey:alpha=0.4"};
    const int choice = source_.below(8);
    std::string rule(choice < 6 ? rules[choice] : "");
    if (choice >= 6) rule = source_.until('\0');
    std::vector<double> p = doubles(static_cast<std::size_t>(source_.below(30)));
    if (source_.byte() % 2 == 0)
      for (double& value : p) value = std::min(std::abs(value) / 8.0, 1.0);
    const std::size_t m = p.size();
    std::vector<std::uint8_t> rejected(m);
    std::vector<double> result(m), prior = doubles(source_.byte() % 2 == 0 ? m : 0);
    prior.resize(m, 1.0);
    std::int64_t count = 0;
    switch (source_.below(3)) {
      case 0: {
        const double* const values = maybe(p);
        const fdroute_status status =
            fdroute_rejections(rule.c_str(), values, m, &count, maybe(rejected));
        if (status == FDROUTE_OK)
          fuzz::require(count >= 0 && count <= static_cast<std::int64_t>(m),
                        "a count is at most m");
        return status;
      }
      case 1: {
        const double* const values = maybe(p);
        const fdroute_status status = fdroute_adjusted(rule.c_str(), values, m, maybe(result));
        if (status == FDROUTE_OK) check_p_values(result);
        return status;
      }
      default: {
        const double* const values = maybe(p);
        const fdroute_status status =
            fdroute_weighted_p_values(values, maybe(prior), m, result.data());
        if (status == FDROUTE_OK) check_p_values(result);
        return status;
      }
    }
  }

  static void check_p_values(const std::vector<double>& p) {
    for (const double value : p) fuzz::require(value >= 0.0 && value <= 1.0, "p lies in [0, 1]");
  }

  fuzz::Source source_;
  std::vector<fdroute_null*> nulls_;
  std::vector<fdroute_router*> routers_;
};

}  // namespace c_api_target

FUZZ_TARGET(c_api) {
  c_api_target::Calls(input).run();
}

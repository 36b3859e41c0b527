// The C interface's masks of experts that cost nothing now. It needs c_api.cpp to link.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fdroute/residency.hpp>
#include <stdexcept>
#include <string>

#include "c_api/c_api.hpp"

using fdroute_c::given;
using fdroute_c::guarded;

struct fdroute_cache {
  fdroute::ExpertCache experts;
};

namespace {

void check_experts(std::int32_t experts) {
  if (experts < 1 || experts > fdroute::max_experts) {
    throw std::invalid_argument("experts must lie in [1, " + std::to_string(fdroute::max_experts) +
                                "], got " + std::to_string(experts));
  }
}

/// Calls use(view) with a routing, checked, if it has tokens. Weights are asked for where they are
/// read.
template <class Use>
void with_routing(const fdroute_padded* routing, std::int64_t tokens, std::int32_t experts,
                  bool reads_weights, const Use& use) {
  check_experts(experts);
  if (fdroute_c::not_negative(tokens, "tokens") == 0) return;
  given(given(routing, "routing")->counts, "counts");
  if (reads_weights) given(routing->weights, "weights");
  fdroute_c::by_id_type(routing->id_type, routing->experts, experts, [&]<class Id>(Id* ids) {
    const fdroute::RoutingView<Id> view{ids, routing->weights, routing->counts, routing->capacity};
    fdroute_c::check_routing(view, tokens, experts);
    use(view);
  });
}

void write_mask(const fdroute::ExpertSet& set, std::int32_t experts, std::uint64_t* mask) {
  std::copy_n(set.words.begin(), fdroute::BitmaskView::words_per_token(experts), mask);
}

}  // namespace

fdroute_status fdroute_union(const fdroute_padded* routing, int64_t tokens, int32_t experts,
                             uint64_t* mask) {
  return guarded([&] {
    given(mask, "mask");
    fdroute::ExpertSet set;
    with_routing(routing, tokens, experts, false,
                 [&](const auto& view) { set = fdroute::union_of(view, tokens, experts); });
    write_mask(set, experts, mask);
  });
}

fdroute_status fdroute_budget(const fdroute_padded* routing, int64_t tokens, int32_t experts,
                              int32_t budget, int32_t keep, uint64_t* mask) {
  return guarded([&] {
    given(mask, "mask");
    fdroute::ExpertSet set;
    with_routing(routing, tokens, experts, true, [&](const auto& view) {
      set = fdroute::budget_of(view, tokens, experts, budget, keep);
    });
    write_mask(set, experts, mask);
  });
}

fdroute_status fdroute_cache_create(int32_t experts, int32_t size, fdroute_cache** cache) {
  return guarded([&] {
    given(cache, "cache");
    *cache = new fdroute_cache{fdroute::ExpertCache(experts, size)};
  });
}

void fdroute_cache_destroy(fdroute_cache* cache) {
  delete cache;
}

fdroute_status fdroute_cache_touch(fdroute_cache* cache, const fdroute_padded* routing,
                                   int64_t tokens, int64_t* loads) {
  return guarded([&] {
    fdroute::ExpertCache& experts = given(cache, "cache")->experts;
    std::int64_t loaded = 0;
    with_routing(routing, tokens, experts.experts(), false,
                 [&](const auto& view) { loaded = experts.touch(view, tokens); });
    if (loads != nullptr) *loads = loaded;
  });
}

fdroute_status fdroute_cache_resident(const fdroute_cache* cache, uint64_t* mask) {
  return guarded([&] {
    const fdroute::ExpertCache& experts = given(cache, "cache")->experts;
    write_mask(experts.resident(), experts.experts(), given(mask, "mask"));
  });
}

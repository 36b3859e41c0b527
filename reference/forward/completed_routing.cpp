#include "forward/completed_routing.hpp"

#include <algorithm>
#include <cstddef>
#include <fdroute/compile_once.hpp>

namespace olmoe {

CompletedRouting::CompletedRouting(std::span<const fdroute::AnyRouter> routers,
                                   const Grouping& grouping, const fdroute::Completion& completion,
                                   std::optional<std::uint64_t> seed)
    : policy_(routers), routers_(routers), grouping_(grouping), completion_(completion) {
  completion.validate();
  if (seed) random_.emplace(*seed);
}

int CompletedRouting::capacity(int layer) const {
  const fdroute::AnyRouter& router = routers_[static_cast<std::size_t>(layer)];
  return std::max(router.capacity(), std::min(completion_.max_k, router.experts()));
}

void CompletedRouting::route(int layer, std::span<const Stretch> stretches,
                             fdroute::LogitsView<float> logits, Rows out) {
  policy_.route(layer, stretches, logits, out);
  if (grouping_.kind == Grouping::Kind::cache)
    return complete_from_cache(layer, stretches, logits, out);

  const std::vector<std::size_t> groups = groups_of(grouping_, stretches);
  std::vector<fdroute::ExpertSet> loaded(*std::max_element(groups.begin(), groups.end()) + 1);
  for (std::size_t row = 0; row < groups.size(); ++row) {
    const Rows token = out.from(static_cast<std::ptrdiff_t>(row));
    for (std::int32_t i = 0; i < token.counts[0]; ++i) loaded[groups[row]].insert(token.experts[i]);
  }
  for (std::size_t row = 0; row < groups.size(); ++row) {
    const auto token = static_cast<std::ptrdiff_t>(row);
    complete(layer, logits.slice(token, 1), loaded[groups[row]], out.from(token));
  }
}

void CompletedRouting::complete_from_cache(int layer, std::span<const Stretch> stretches,
                                           fdroute::LogitsView<float> logits, Rows out) {
  const int experts = routers_[static_cast<std::size_t>(layer)].experts();
  std::ptrdiff_t token = 0;
  for (const Stretch& stretch : stretches) {
    fdroute::ExpertCache& cache =
        caches_.try_emplace({stretch.sequence, layer}, experts, std::min(grouping_.size, experts))
            .first->second;
    if (stretch.start == 0) cache.clear();
    for (std::int64_t i = 0; i < stretch.tokens; ++i, ++token) {
      complete(layer, logits.slice(token, 1), cache.resident(), out.from(token));
      cache.touch(out.from(token), 1);
    }
  }
}

void CompletedRouting::complete(int layer, fdroute::LogitsView<float> token,
                                const fdroute::ExpertSet& resident, Rows out) {
  const fdroute::AnyRouter& router = routers_[static_cast<std::size_t>(layer)];
  if (!random_) return router.complete(token, resident, completion_, out);

  // As many as completion adds, of the residents that the policy did not select; these are then all
  // that is resident, wherever they rank.
  fdroute::ExpertSet selected;
  const std::int32_t before = out.counts[0];
  const std::vector<std::int32_t> base(out.experts, out.experts + before);
  for (const std::int32_t expert : base) selected.insert(expert);
  router.complete(token, resident, completion_, out);
  const std::int32_t added = out.counts[0] - before;
  if (added == 0) return;
  std::vector<std::int32_t> others;
  for (std::int32_t e = 0; e < router.experts(); ++e) {
    if (resident.contains(e) && !selected.contains(e)) others.push_back(e);
  }
  fdroute::ExpertSet drawn;
  for (std::int32_t i = 0; i < added; ++i) {
    const std::size_t left = others.size() - static_cast<std::size_t>(i);
    std::swap(others[(*random_)() % left], others[left - 1]);
    drawn.insert(others[left - 1]);
  }
  router.route(token, out);
  router.complete(token, drawn, {.window = router.experts(), .max_k = before + added}, out);
}

}  // namespace olmoe

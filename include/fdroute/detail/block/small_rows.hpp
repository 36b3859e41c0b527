#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "fdroute/detail/block/load.hpp"
#include "fdroute/detail/block/token_block.hpp"
#include "fdroute/detail/row/exp_sum.hpp"
#include "fdroute/detail/row/recipes.hpp"
#include "fdroute/detail/row/sigmoid.hpp"
#include "fdroute/views.hpp"

// Rows of at most 32 experts, of which a fixed number is selected by logits: sixteen tokens at a
// time, each in a lane of its own, so that no row pays for lanes that it lacks.

namespace fdroute::inline v0::detail {

/// Sixteen tokens with a lane each: `logits` has element j of all of them from 16 j on; weights,
/// ids and `decided` are of those selected.
struct SmallRows {
  static constexpr int most_experts = 32;
  static constexpr int most_selected = 8;

  static constexpr bool fit(int experts, int selected) noexcept {
    return experts <= most_experts && selected >= 1 && selected <= most_selected;
  }

  template <class T>
  using PerRank = std::array<std::array<T, 16>, most_selected>;

  int experts;
  int selected;
  std::uint32_t decided;  // a bit for each token; the definition decides the others
  alignas(64) std::array<float, std::size_t{16} * most_experts> logits;
  alignas(64) PerRank<float> chosen;  // the selected experts' logits
  alignas(64) PerRank<std::int32_t> ids;
  alignas(64) PerRank<float> weights;
};

/// Fills in the logits of up to sixteen tokens; lanes of no token hold those of the first.
template <class Arch, class T>
FDROUTE_KERNEL void load_small_rows(SmallRows& small, LogitsView<T> view) noexcept {
  const int padded = padded_to(16, small.experts);
  const int read = small.experts <= 8 ? 8 : padded;
  alignas(64) std::array<float, std::size_t{16} * SmallRows::most_experts> copies;
  std::array<const float*, 16> rows{};
  const auto tokens = static_cast<std::size_t>(view.tokens);
  std::size_t t = 0;
  if constexpr (std::is_same_v<T, float>) {
    if (view.stride == small.experts) {
      // What is read after a row's end is still the view's.
      const std::ptrdiff_t last = view.tokens * view.stride - read;
      for (std::ptrdiff_t from = 0; from <= last; from += view.stride) rows[t++] = view.data + from;
    }
  }
  for (; t < tokens; ++t) {
    float* copy = copies.data() + static_cast<std::size_t>(padded) * t;
    copy_row<Arch>(view.row(static_cast<std::ptrdiff_t>(t)), small.experts, padded, copy);
    rows[t] = copy;
  }
  for (; t < rows.size(); ++t) rows[t] = rows[0];
  if (read == 8) return transpose_16<8>(rows.data(), small.logits.data(), 16, Arch{});
  transpose_16(rows.data(), small.logits.data(), 16, Arch{});
  if (padded > 16) {
    for (const float*& row : rows) row += 16;
    transpose_16(rows.data(), small.logits.data() + 256, 16, Arch{});
  }
}

/// Fills in the logits and ids of at least the `selected` best, at most k, and `decided`.
template <class Arch, std::size_t k>
FDROUTE_KERNEL void select_small(SmallRows& small) noexcept {
  constexpr float inf = std::numeric_limits<float>::infinity();
  std::array<Ints<Arch>, k> best;
  std::array<Ints<Arch>, k> ids;
  best.fill(ordered(Floats<Arch>(-inf)));
  ids.fill(Ints<Arch>(0));
  std::uint64_t numbers = 0xFFFF;
  for (int j = 0; j < small.experts; ++j) {
    const auto x = Floats<Arch>::load(small.logits.data() + std::ptrdiff_t{16} * j);
    numbers &= (Floats<Arch>(inf) > x).bits();
    const Ints<Arch> key = ordered(x);
    // Behind all that are as large; what is smaller moves on by one place.
    std::array<LaneMask<std::int32_t, Arch>, k> better;
    unrolled<k>([&](std::size_t i) FDROUTE_INLINED { better[i] = key > best[i]; });
    unrolled<k>([&](std::size_t from_last) FDROUTE_INLINED {
      const std::size_t i = k - 1 - from_last;
      Ints<Arch> moved = key;
      Ints<Arch> moved_id(j);
      if (i > 0) {
        moved = choose(better[i - 1], best[i - 1], key);
        moved_id = choose(better[i - 1], ids[i - 1], moved_id);
      }
      best[i] = choose(better[i], moved, best[i]);
      ids[i] = choose(better[i], moved_id, ids[i]);
    });
  }
  unrolled<k>([&](std::size_t i) FDROUTE_INLINED {
    from_ordered(best[i]).store(small.chosen[i].data());
    ids[i].store(small.ids[i].data());
  });
  const auto last = static_cast<std::size_t>(small.selected - 1);
  const auto finite = Floats<Arch>::load(small.chosen[last].data()) > Floats<Arch>(-inf);
  small.decided = static_cast<std::uint32_t>(numbers & finite.bits());
}

/// Fills in the weights, as Weigher does and in its order of sums.
template <class Arch>
FDROUTE_KERNEL void weigh_small(SmallRows& small, const WeightRecipe& recipe) noexcept {
  using Lane = Floats<Arch>;
  using Wide = Doubles<Arch>;
  using Exp = ExpOfDifference<Arch>;
  const auto selected = static_cast<std::size_t>(small.selected);
  const auto each = [&](const auto& use) FDROUTE_INLINED {
    for (std::size_t i = 0; i < selected; ++i) use(Lane::load(small.chosen[i].data()), i);
  };
  const auto store = [&](const Lane& w, std::size_t i) FDROUTE_INLINED {
    (w * Lane(recipe.factor)).store(small.weights[i].data());
  };
  if (recipe.of == WeightRecipe::Of::sigmoid) {
    if (!recipe.renormalize) {
      return each([&](const Lane& x, std::size_t i) FDROUTE_INLINED { store(sigmoid(x), i); });
    }
    // By rank, and folded in halves.
    std::array<Wide, SmallRows::most_selected> sums;
    sums.fill(Wide(0.0));
    each([&](const Lane& x, std::size_t i) FDROUTE_INLINED {
      const Lane s = sigmoid(x);
      s.store(small.weights[i].data());
      sums[i] = widen(s);
    });
    for (std::size_t half = sums.size() / 2; half > 0; half /= 2) {
      for (std::size_t i = 0; i < half; ++i) sums[i] = sums[i] + sums[i + half];
    }
    const auto some = sums[0] > Wide(0.0);
    const Wide inverse = Wide(1.0) / choose(some, sums[0] + Wide(recipe.parameter), Wide(1.0));
    for (std::size_t i = 0; i < selected; ++i)
      store(narrow(widen(Lane::load(small.weights[i].data())) * inverse), i);
    return;
  }
  const Lane largest = Lane::load(small.chosen[0].data());
  const Lane high = Exp::high_part(largest);
  const auto exp = [&](const Lane& x) FDROUTE_INLINED {
    return exp_of_difference<Arch>(x, largest, high, largest - high);
  };
  // A row farther from 0 takes its exps of rounded differences.
  const Lane limit(Exp::limit);
  small.decided &=
      static_cast<std::uint32_t>((limit >= largest).bits() & (largest >= Lane(-Exp::limit)).bits());
  if (recipe.renormalize) {
    Wide sum(0.0);
    each([&](const Lane& x, std::size_t i) FDROUTE_INLINED {
      const Lane e = exp(x);
      e.store(small.weights[i].data());
      sum = sum + fixed_point(widen(e));
    });
    const Lane factor = narrow(Wide(1.0) / sum);
    for (std::size_t i = 0; i < selected; ++i)
      store(Lane::load(small.weights[i].data()) * factor, i);
    return;
  }
  // exp_sum()'s lanes and order.
  alignas(64) std::array<Wide, 16> lanes;
  for (std::size_t j = 0; j < 16; ++j) {
    Lane e(0.0F);
    for (std::size_t i = j; i < static_cast<std::size_t>(small.experts); i += 16)
      e = e + exp(Lane::load(small.logits.data() + 16 * i));
    lanes[j] = widen(e);
  }
  for (std::size_t half = 8; half > 0; half /= 2) {
    for (std::size_t j = 0; j < half; ++j) lanes[j] = lanes[j] + lanes[j + half];
  }
  const Lane factor = narrow(Wide(1.0) / lanes[0]);
  each([&](const Lane& x, std::size_t i) FDROUTE_INLINED { store(exp(x) * factor, i); });
}

template <class Arch>
void route_small(SmallRows& small, const WeightRecipe& recipe) noexcept {
  if (small.selected == 1) {
    select_small<Arch, 1>(small);
  } else if (small.selected == 2) {
    select_small<Arch, 2>(small);
  } else if (small.selected <= 4) {
    select_small<Arch, 4>(small);
  } else {
    select_small<Arch, 8>(small);
  }
  weigh_small<Arch>(small, recipe);
}

}  // namespace fdroute::inline v0::detail

#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "fdroute/arch.hpp"
#include "fdroute/parse.hpp"

/// For programs of several translation units: routing by DefaultArch and parse_router(), most of
/// what such a program compiles of fdroute, are compiled in one of them and only declared in the
/// others. The one defines FDROUTE_COMPILE_ONCE before it includes this header; the others include
/// it, too, and take what the linker finds. Nothing else changes: a translation unit that does not
/// include this header compiles its own, and the linker keeps one.
///
/// DefaultArch is part of all names, so units of another instruction set need a unit of their own
/// that compiles.
#if defined(FDROUTE_COMPILE_ONCE)
#define FDROUTE_ONCE template
#else
#define FDROUTE_ONCE extern template
#endif

namespace fdroute::inline v0 {
namespace detail {

#define FDROUTE_ONCE_ROUTE(...)                                                 \
  FDROUTE_ONCE TokenStatus BlockRouter<DefaultArch>::route<float, __VA_ARGS__>( \
      const ErasedRouter&, LogitsView<float>, __VA_ARGS__) noexcept;
FDROUTE_ONCE_ROUTE(RoutingView<std::int32_t>)
FDROUTE_ONCE_ROUTE(RoutingView<std::int64_t>)
FDROUTE_ONCE_ROUTE(CsrView<std::int32_t>)
FDROUTE_ONCE_ROUTE(CsrView<std::int64_t>)
FDROUTE_ONCE_ROUTE(DenseView)
FDROUTE_ONCE_ROUTE(BitmaskView)
#undef FDROUTE_ONCE_ROUTE

#define FDROUTE_ONCE_COMPLETE(Id)                                     \
  FDROUTE_ONCE void BlockCompleter<DefaultArch>::complete<float, Id>( \
      const ErasedRouter&, LogitsView<float>, Residency, Completion, RoutingView<Id>) noexcept;
FDROUTE_ONCE_COMPLETE(std::int32_t)
FDROUTE_ONCE_COMPLETE(std::int64_t)
#undef FDROUTE_ONCE_COMPLETE

FDROUTE_ONCE bool widen_rows<DefaultArch>(LogitFormat, const std::byte*, std::ptrdiff_t,
                                          std::ptrdiff_t, int, float*) noexcept;
FDROUTE_ONCE void load_tiles<DefaultArch>(const float*, std::ptrdiff_t, int, int, float*,
                                          std::ptrdiff_t) noexcept;
FDROUTE_ONCE double exp_sum<DefaultArch>(const float*, int, float, float*) noexcept;

// Of all forms of output, of all ids and of logits of any type: keys, ranks and weights.
FDROUTE_ONCE bool route_one<DefaultArch>(const ErasedRouter&, const float*, const float*,
                                         OneToken&) noexcept;
FDROUTE_ONCE void find_sigmoid_keys<DefaultArch>(const TokenBlock&, const float*,
                                                 TokenBlock&) noexcept;
FDROUTE_ONCE void limit_groups<DefaultArch>(TokenBlock&, const KeyRecipe&) noexcept;
FDROUTE_ONCE void rank_best<DefaultArch>(TokenBlock&, bool) noexcept;
FDROUTE_ONCE void take_exps<DefaultArch>(TokenBlock&) noexcept;
FDROUTE_ONCE void weigh_ranked<DefaultArch>(const TokenBlock&, const WeightRecipe&,
                                            TokenBlock&) noexcept;
FDROUTE_ONCE void weigh_by_mass<DefaultArch>(const TokenBlock&, const WeightRecipe&,
                                             TokenBlock&) noexcept;
FDROUTE_ONCE void weigh_one<DefaultArch>(const TokenBlock&, int, const WeightRecipe&,
                                         const std::int32_t*, int, float*) noexcept;
FDROUTE_ONCE void select_small<DefaultArch, 1>(SmallRows&) noexcept;
FDROUTE_ONCE void select_small<DefaultArch, 2>(SmallRows&) noexcept;
FDROUTE_ONCE void select_small<DefaultArch, 4>(SmallRows&) noexcept;
FDROUTE_ONCE void select_small<DefaultArch, 8>(SmallRows&) noexcept;
FDROUTE_ONCE void weigh_small<DefaultArch>(SmallRows&, const WeightRecipe&) noexcept;

// How many experts a token gets.
FDROUTE_ONCE void map_by_log_softmax<DefaultArch>(TokenBlock&) noexcept;
FDROUTE_ONCE void map_by_zscore<DefaultArch>(TokenBlock&) noexcept;
FDROUTE_ONCE void count_by_critical_scores<DefaultArch>(TokenBlock&, const float*, bool, MapKind,
                                                        ExpertBounds) noexcept;

}  // namespace detail

FDROUTE_ONCE AnyRouter parse_router<DefaultArch>(std::string_view, int,
                                                 const ParseOptions<DefaultArch>&);

}  // namespace fdroute::inline v0

#undef FDROUTE_ONCE

#pragma once

#include <algorithm>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "fdroute/any_router.hpp"
#include "fdroute/detail/number/to_text.hpp"
#include "fdroute/detail/policy_string/arguments.hpp"
#include "fdroute/limits.hpp"
#include "fdroute/policy_settings.hpp"
#include "fdroute/presets.hpp"
#include "fdroute/selection/absolute_threshold.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/benjamini_yekutieli.hpp"
#include "fdroute/selection/berk_jones.hpp"
#include "fdroute/selection/bonferroni.hpp"
#include "fdroute/selection/ebh.hpp"
#include "fdroute/selection/higher_criticism.hpp"
#include "fdroute/selection/hochberg.hpp"
#include "fdroute/selection/holm.hpp"
#include "fdroute/selection/hommel.hpp"
#include "fdroute/selection/local_fdr.hpp"
#include "fdroute/selection/log_slope.hpp"
#include "fdroute/selection/relative_threshold.hpp"
#include "fdroute/selection/sidak.hpp"
#include "fdroute/selection/storey_bh.hpp"
#include "fdroute/selection/top_p.hpp"
#include "fdroute/selection/topk.hpp"
#include "fdroute/selection/two_stage_bky.hpp"

namespace fdroute::inline v0::detail {

/// A row of the table below: a PolicyMaker for any Arch. `make` is generic, and so is not compiled
/// where only names are wanted.
template <class Make>
struct PolicyRow {
  std::string_view name;
  Make make;
};

template <class Make>
PolicyRow(std::string_view, Make) -> PolicyRow<Make>;

template <class Settings>
auto read_deviation(Settings& s) {
  using Deviation = HigherCriticism::Deviation;
  return s.choice("deviation", {"rank", "p"}, "rank") == "p" ? Deviation::of_p : Deviation::of_rank;
}

// The presets take their settings under the names of the models' config.json.

template <class Settings>
int read_top_k(Settings& s, int otherwise) {
  return s.number("num_experts_per_tok", otherwise);
}

template <class Settings>
bool read_norm(Settings& s, bool otherwise) {
  return s.flag("norm_topk_prob", otherwise);
}

template <class Settings>
AnyRouter make_deepseek_v3(Settings& s, int n_group, int topk_group) {
  const presets::DeepseekV3Config config{
      .n_routed_experts = s.experts(),
      .num_experts_per_tok = read_top_k(s, 8),
      .n_group = s.number("n_group", n_group),
      .topk_group = s.number("topk_group", topk_group),
      .norm_topk_prob = read_norm(s, true),
      .routed_scaling_factor = s.number("routed_scaling_factor", 2.5F)};
  return s.finish(presets::deepseek_v3(config, s.selection_bias()));
}

/// Every policy that the library's strings can name: THE place to add one.
constexpr auto policy_table() {
  return std::tuple{
      // Rules that need no p-values.
      PolicyRow{"topk", [](auto& s) { return s.route_by(TopK{s.number("k", 8)}); }},
      PolicyRow{"top_p", [](auto& s) { return s.route_by(TopP{s.number("p", 0.9)}); }},
      PolicyRow{"relative",
                [](auto& s) { return s.route_by(RelativeThreshold{s.number("t", 0.1)}); }},
      PolicyRow{"threshold",
                [](auto& s) { return s.route_by(AbsoluteThreshold{s.number("t", 0.05)}); }},
      PolicyRow{"slope",
                [](auto& s) {
                  return s.route_by(LogSlope{s.number("c", -3.0), s.number("sigma", 0.3)});
                }},
      // Rules that do.
      PolicyRow{"bh",
                [](auto& s) { return s.route_by(BenjaminiHochberg{s.number("alpha", 0.05)}); }},
      PolicyRow{"by",
                [](auto& s) { return s.route_by(BenjaminiYekutieli{s.number("alpha", 0.05)}); }},
      PolicyRow{"ebh",
                [](auto& s) {
                  return s.route_by(EBH{s.number("alpha", 0.05), s.number("kappa", 0.5)});
                }},
      PolicyRow{"bonferroni",
                [](auto& s) { return s.route_by(Bonferroni{s.number("alpha", 0.05)}); }},
      PolicyRow{"sidak", [](auto& s) { return s.route_by(Sidak{s.number("alpha", 0.05)}); }},
      PolicyRow{"holm", [](auto& s) { return s.route_by(Holm{s.number("alpha", 0.05)}); }},
      PolicyRow{"hochberg", [](auto& s) { return s.route_by(Hochberg{s.number("alpha", 0.05)}); }},
      PolicyRow{"hommel", [](auto& s) { return s.route_by(Hommel{s.number("alpha", 0.05)}); }},
      PolicyRow{"storey",
                [](auto& s) {
                  return s.route_by(StoreyBH{s.number("alpha", 0.05), s.number("lambda", 0.5)});
                }},
      PolicyRow{"bky", [](auto& s) { return s.route_by(TwoStageBKY{s.number("alpha", 0.05)}); }},
      PolicyRow{"hc",
                [](auto& s) {
                  return s.route_by(HigherCriticism{s.number("search", 0.5), read_deviation(s)});
                }},
      PolicyRow{"bj", [](auto& s) { return s.route_by(BerkJones{s.number("search", 0.5)}); }},
      PolicyRow{"lfdr", [](auto& s) { return s.route_by(LocalFdr{s.number("alpha", 0.2)}); }},
      // Presets.
      PolicyRow{
          "olmoe",
          [](auto& s) {
            return s.finish(presets::olmoe({s.experts(), read_top_k(s, 8), read_norm(s, false)}));
          }},
      PolicyRow{"mixtral",
                [](auto& s) {
                  return s.finish(presets::mixtral({s.experts(), read_top_k(s, 2)}));
                }},
      PolicyRow{"qwen3-moe",
                [](auto& s) {
                  return s.finish(
                      presets::qwen3_moe({s.experts(), read_top_k(s, 8), read_norm(s, true)}));
                }},
      PolicyRow{"gpt-oss",
                [](auto& s) {
                  return s.finish(presets::gpt_oss({s.experts(), read_top_k(s, 4)}));
                }},
      PolicyRow{"llama4",
                [](auto& s) {
                  return s.finish(presets::llama4({s.experts(), read_top_k(s, 1)}));
                }},
      PolicyRow{"deepseek-v2",
                [](auto& s) {
                  return s.finish(presets::deepseek_v2(
                      {s.experts(), read_top_k(s, 6), s.number("n_group", 8),
                       s.number("topk_group", 3), s.number("routed_scaling_factor", 16.0F)}));
                }},
      PolicyRow{"deepseek-v3", [](auto& s) { return make_deepseek_v3(s, 8, 4); }},
      PolicyRow{"glm4-moe", [](auto& s) { return make_deepseek_v3(s, 1, 1); }},
  };
}

/// The table's rows for one Arch, then `more`.
template <class Arch>
std::vector<PolicyMaker<Arch>> all_makers(std::span<const PolicyMaker<Arch>> more) {
  using Make = AnyRouter (*)(PolicySettings<Arch>&);  // one type, and so one std::function, for all
  auto makers = std::apply(
      [](const auto&... row) {
        return std::vector{PolicyMaker<Arch>{row.name, Make{row.make}}...};
      },
      policy_table());
  makers.insert(makers.end(), more.begin(), more.end());
  return makers;
}

/// The router of a policy string, by the maker of its name.
template <class Arch>
AnyRouter make_router(std::string_view text, int experts, const ParseOptions<Arch>& options) {
  PolicyArguments arguments(text);
  validate_experts(experts);
  const auto makers = all_makers<Arch>(options.makers);
  const auto named = [name = arguments.name()](const auto& maker) { return maker.name == name; };
  const auto found = std::ranges::find_if(makers, named);
  if (found == makers.end()) {
    std::vector<std::string_view> names;
    for (const auto& maker : makers) names.push_back(maker.name);
    arguments.fail(0, "unknown policy " + quote(arguments.name()) + "; accepted are " +
                          PolicyArguments::join(names));
  }
  if (std::any_of(std::next(found), makers.end(), named)) {
    throw std::invalid_argument("policy " + quote(text) + ": two makers are called " +
                                quote(arguments.name()));
  }
  PolicySettings<Arch> settings(std::move(arguments), experts, options);
  return found->make(settings);
}

}  // namespace fdroute::inline v0::detail

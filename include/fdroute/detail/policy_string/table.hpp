#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "fdroute/any_router.hpp"
#include "fdroute/detail/number/to_text.hpp"
#include "fdroute/detail/policy_string/arguments.hpp"
#include "fdroute/detail/policy_string/closest.hpp"
#include "fdroute/detail/policy_string/model_preset.hpp"
#include "fdroute/detail/policy_string/named_parts.hpp"
#include "fdroute/errors.hpp"
#include "fdroute/limits.hpp"
#include "fdroute/model_router.hpp"
#include "fdroute/model_table.hpp"
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

template <class Settings>
auto read_deviation(Settings& s) {
  using Deviation = HigherCriticism::Deviation;
  return s.choice("deviation", {"rank", "p"}, "rank") == "p" ? Deviation::of_p : Deviation::of_rank;
}

// The presets take their settings under the names of the models' config.json.

template <class Settings>
int read_top_k(Settings& s, int otherwise) {
  return s.replaces_rule() ? 1 : s.number("num_experts_per_tok", otherwise);
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
  return s.route_as(presets::deepseek_v3(config, s.selection_bias()));
}

/// Every rule that the library's strings can name: THE place to add one. Its second field says how
/// many experts it selects: p(1) <= ... <= p(m) are the sorted p-values, P(1) >= ... the softmax
/// probabilities, and a maximum of nothing is 0.
constexpr auto rule_table() {
  return std::tuple{
      // Rules that need no p-values.
      PolicyRow{"topk", "k, whatever the logits are",
                [](auto& s) { return s.route_by(TopK{s.number("k", 8)}); }},
      PolicyRow{"top_p", "min { k : P(1) + ... + P(k) >= p }",
                [](auto& s) { return s.route_by(TopP{s.number("p", 0.9)}); }},
      PolicyRow{"relative", "#{ j : P_j >= t P(1) }",
                [](auto& s) { return s.route_by(RelativeThreshold{s.number("t", 0.1)}); }},
      PolicyRow{"threshold", "#{ j : P_j >= t }",
                [](auto& s) { return s.route_by(AbsoluteThreshold{s.number("t", 0.05)}); }},
      PolicyRow{"slope", "max { k : log P(k) >= c - sigma ln k }",
                [](auto& s) {
                  return s.route_by(LogSlope{s.number("c", -3.0), s.number("sigma", 0.3)});
                }},
      // Rules that do.
      PolicyRow{"bh", "max { k : p(k) <= alpha k / m }",
                [](auto& s) { return s.route_by(BenjaminiHochberg{s.number("alpha", 0.05)}); }},
      PolicyRow{"by", "max { k : p(k) <= alpha k / (m sum_{i<=m} 1/i) }",
                [](auto& s) { return s.route_by(BenjaminiYekutieli{s.number("alpha", 0.05)}); }},
      PolicyRow{"ebh", "max { k : e(k) >= m / (alpha k) },  e = kappa p^(kappa - 1)",
                [](auto& s) {
                  return s.route_by(EBH{s.number("alpha", 0.05), s.number("kappa", 0.5)});
                }},
      PolicyRow{"bonferroni", "#{ j : p_j <= alpha / m }",
                [](auto& s) { return s.route_by(Bonferroni{s.number("alpha", 0.05)}); }},
      PolicyRow{"sidak", "#{ j : p_j <= 1 - (1 - alpha)^(1/m) }",
                [](auto& s) { return s.route_by(Sidak{s.number("alpha", 0.05)}); }},
      PolicyRow{"holm", "max { k : p(i) <= alpha / (m - i + 1) for all i <= k }",
                [](auto& s) { return s.route_by(Holm{s.number("alpha", 0.05)}); }},
      PolicyRow{"hochberg", "max { k : p(k) <= alpha / (m - k + 1) }",
                [](auto& s) { return s.route_by(Hochberg{s.number("alpha", 0.05)}); }},
      PolicyRow{"hommel",
                "#{ j : p_j <= alpha / h },  h = max { i : p(m-i+k) > alpha k / i for all k <= i }",
                [](auto& s) { return s.route_by(Hommel{s.number("alpha", 0.05)}); }},
      PolicyRow{
          "storey",
          "max { k : p(k) <= alpha k / (m pi0), p(k) <= lambda },  pi0 = (1 + #{ p_j > lambda }) / "
          "(m (1 - lambda))",
          [](auto& s) {
            return s.route_by(StoreyBH{s.number("alpha", 0.05), s.number("lambda", 0.5)});
          }},
      PolicyRow{"bky",
                "max { k : p(k) <= q k / (m - r), p(k) < 1 },  q = alpha / (1 + alpha),  r = count "
                "of bh at q",
                [](auto& s) { return s.route_by(TwoStageBKY{s.number("alpha", 0.05)}); }},
      PolicyRow{"hc",
                "argmax { HC(i) : i <= search m, p(i) < i/m },  HC(i) = sqrt(m) (i/m - p(i)) / "
                "sqrt(variance)",
                [](auto& s) {
                  return s.route_by(HigherCriticism{s.number("search", 0.5), read_deviation(s)});
                }},
      PolicyRow{"bj",
                "argmax { m K(i/m, p(i)) : i <= search m, p(i) < i/m },  K the relative entropy",
                [](auto& s) { return s.route_by(BerkJones{s.number("search", 0.5)}); }},
      PolicyRow{"lfdr", "the largest k that maximises alpha k / m - p(k)",
                [](auto& s) { return s.route_by(LocalFdr{s.number("alpha", 0.2)}); }},
  };
}

/// Every preset that the library's strings can name, and how it routes: THE place to add one.
constexpr auto preset_table() {
  return std::tuple{
      PolicyRow{
          "olmoe", "softmax, top-k, weights as they are",
          [](auto& s) {
            return s.route_as(presets::olmoe({s.experts(), read_top_k(s, 8), read_norm(s, false)}));
          }},
      PolicyRow{"mixtral", "softmax, top-k, weights divided by their sum",
                [](auto& s) {
                  return s.route_as(presets::mixtral({s.experts(), read_top_k(s, 2)}));
                }},
      PolicyRow{"qwen3-moe", "softmax, top-k, weights divided by their sum",
                [](auto& s) {
                  return s.route_as(
                      presets::qwen3_moe({s.experts(), read_top_k(s, 8), read_norm(s, true)}));
                }},
      PolicyRow{"gpt-oss", "top-k, softmax over the selected",
                [](auto& s) {
                  return s.route_as(presets::gpt_oss({s.experts(), read_top_k(s, 4)}));
                }},
      PolicyRow{"llama4", "top-k, weights sigmoid(logit)",
                [](auto& s) {
                  return s.route_as(presets::llama4({s.experts(), read_top_k(s, 1)}));
                }},
      PolicyRow{"deepseek-v2", "softmax, top-k of the best groups, weights scaled",
                [](auto& s) {
                  return s.route_as(presets::deepseek_v2(
                      {s.experts(), read_top_k(s, 6), s.number("n_group", 8),
                       s.number("topk_group", 3), s.number("routed_scaling_factor", 16.0F)}));
                }},
      PolicyRow{
          "deepseek-v3",
          "sigmoid plus bias, top-k of the best groups, weights divided by their sum and scaled",
          [](auto& s) { return make_deepseek_v3(s, 8, 4); }},
      PolicyRow{"glm4-moe", "sigmoid plus bias, top-k, weights divided by their sum and scaled",
                [](auto& s) { return make_deepseek_v3(s, 1, 1); }},
  };
}

/// All of them.
constexpr auto policy_table() {
  return std::tuple_cat(rule_table(), preset_table());
}

/// A table's rows for one Arch.
template <class Arch, class... Rows>
constexpr auto makers_of(const std::tuple<Rows...>& table) {
  return std::apply(
      [](const auto&... row) {
        return std::array{LibraryMaker<Arch>{row.name, row.make}...};
      },
      table);
}

[[noreturn, gnu::cold]] inline void refuse_name(const PolicyArguments& arguments,
                                                std::vector<std::string_view> names) {
  if (arguments.is_preset()) {
    for (const auto& row : presets::model_table) {
      if (std::ranges::find(names, row.model_type) == names.end()) names.push_back(row.model_type);
    }
  }
  arguments.fail(arguments.name_position(),
                 "unknown " + std::string(arguments.is_preset() ? "preset " : "policy ") +
                     quote(arguments.name()) + did_you_mean(arguments.name(), names) +
                     "; accepted are " + PolicyArguments::join(names));
}

/// The router of a policy string, by the maker of its name.
template <class Arch>
[[gnu::cold]] AnyRouter make_router(std::string_view text, int experts,
                                    const ParseOptions<Arch>& options) {
  static constexpr auto rules = makers_of<Arch>(rule_table());
  static constexpr auto models = makers_of<Arch>(preset_table());
  PolicyArguments arguments(text);
  validate_experts(experts);
  MakerList<Arch> makers{{rules, models}, options.makers};
  if (arguments.is_preset()) makers.library[0] = {};
  std::vector<std::string_view> names;
  makers.append_names(names);
  const auto found = std::ranges::count(names, arguments.name());
  const presets::ModelRouter* const model = presets::find_model(arguments.name());
  if (found == 0 && model == nullptr) refuse_name(arguments, std::move(names));
  if (found > 1)
    refuse("policy ", Quoted{text}, ": two makers are called ", Quoted{arguments.name()});
  PolicySettings<Arch> settings(arguments, experts, options, rules);
  return found == 0 ? make_model_router(settings, *model) : makers.make(arguments.name(), settings);
}

}  // namespace fdroute::inline v0::detail

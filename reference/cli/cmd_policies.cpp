#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <fdroute/compile_once.hpp>
#include <fdroute/detail/number/to_text.hpp>
#include <fdroute/model_table.hpp>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "cli/commands.hpp"

namespace olmoe {
namespace {

/// A key that many policies share: the values it takes, the default first, and what it does.
struct Key {
  std::string_view settings;
  std::string_view meaning;
};

constexpr std::array every_rule{
    Key{"min_k=1", "at least so many experts, rejected or not"},
    Key{"max_k=all", "at most so many: a cap after the rule"},
    Key{"ranking=NAME", "what the experts are ranked by; below"},
    Key{"selection_bias=given|none", "with a sigmoid ranking: the model's bias of every expert"},
    Key{"groups=1", "with group_limited: groups of neighbouring experts"},
    Key{"kept=1", "of which the best so many are kept"},
    Key{"group_score=max|sum_of_top2", "what groups are compared by"},
    Key{"masked=-inf", "the rank of experts in the other groups"},
    Key{"ties=lowest|highest", "of equal experts, the index that goes first"},
    Key{"weights=NAME", "what outputs are multiplied by; below"},
    Key{"temperature=1", "with softmax weights: softmax(logit / temperature)"},
    Key{"renormalize=true|false", "divide the weights by their sum; default: the model's own"},
    Key{"mass_exponent=0", "with softmax weights: how much of the lost mass they keep, 0 to 1"},
    Key{"mass_k=8", "the experts whose mass that is; default: the model's own k"},
    Key{"epsilon=0", "with sigmoid weights: added to that sum"},
    Key{"factor=1", "with scaled weights: multiplies them"},
};

constexpr std::array rules_of_p{
    Key{"null=tabulated|normal|logistic|conformal|per_expert",
        "the null distribution; tabulated is what calibrate fits"},
    Key{"score=logit|log_softmax|zscore", "what p-values are of; default: what the null is of"},
    Key{"mean=0", "with null=normal"},
    Key{"sd=1", "with null=normal"},
    Key{"location=0", "with null=logistic"},
    Key{"scale=0.5513...", "with null=logistic: sqrt(3) / pi, a variance of 1"},
    Key{"prior=given|none", "divide p-values by prior weights of the experts"},
    Key{"level=1", "hc and bj: the share of tokens of pure noise with a rejection"},
};

constexpr std::array every_preset{
    Key{"ties=lowest|highest", "of equal experts, the index that goes first"},
    Key{"rule=NAME", "a rule above in the place of the model's top-k, with its own settings"},
};

/// Writes down what a model's router asks its config for.
struct ConfigKeys {
  template <class Number>
  Number number(std::string_view key, Number otherwise) {
    keys.push_back(std::string(key) + "=" + fdroute::detail::to_text(otherwise));
    return otherwise;
  }
  bool flag(std::string_view key, bool otherwise) {
    keys.push_back(std::string(key) + (otherwise ? "=true" : "=false"));
    return otherwise;
  }
  std::string_view choice(std::string_view key, std::initializer_list<std::string_view> accepted,
                          std::string_view otherwise) {
    std::string text;
    for (const std::string_view word : accepted) text.append(text.empty() ? "" : "|").append(word);
    keys.push_back(std::string(key) + "=" + text);
    return otherwise;
  }
  /// The key that was asked for last has no default.
  void lacks(std::string_view key) { keys.back() = std::string(key) + "=?"; }
  std::vector<float> bias() {
    keys.emplace_back("selection_bias=given|none");
    return {};
  }
  std::vector<float> expert_scale() {
    keys.emplace_back("expert_scale=given|none");
    return {};
  }

  std::vector<std::string> keys{};
};

/// `first`, then the words from this column on, in lines of at most 80.
void print_words(const std::string& first, std::size_t column,
                 const std::vector<std::string>& words) {
  constexpr std::size_t widest = 80;
  std::string line = first;
  for (const std::string& word : words) {
    const std::size_t at = line.size() <= column ? column : line.size() + 2;
    if (at > column && at + word.size() > widest) {
      std::printf("%s\n", line.c_str());
      line.clear();
    }
    line.resize(line.size() < column ? column : line.size() + 2, ' ');
    line += word;
  }
  std::printf("%s\n", line.c_str());
}

/// The policy with its settings at their defaults: "bh:alpha=0.05,min_k=1,...".
std::string with_defaults(std::string_view name, bool needs_null) {
  constexpr int experts = 64;
  static const std::vector<float> bias(experts);
  return fdroute::parse_router(std::string(name) + (needs_null ? ":null=normal" : ""), experts,
                               fdroute::ParseOptions<>{.selection_bias = bias})
      .policy();
}

/// Rules that read p-values come after those that do not.
bool reads_p(std::string_view name) {
  const auto names = fdroute::policy_names();
  const auto place = std::ranges::find(names, name);
  return place >= std::ranges::find(names, "bh") &&
         place - names.begin() < static_cast<std::ptrdiff_t>(fdroute::policy_rules());
}

/// What a policy has for itself, {"alpha=0.05", "kappa=0.5"}: of a rule, what stands before the
/// bounds that all have.
std::vector<std::string> own_settings(std::string_view name, bool is_rule) {
  std::string policy = with_defaults(name, reads_p(name));
  if (is_rule) policy.resize(std::min(policy.find("min_k="), policy.size()));
  std::istringstream settings(policy.substr(std::min(policy.find(':') + 1, policy.size())));
  std::vector<std::string> own;
  for (std::string setting; std::getline(settings, setting, ',');) own.push_back(setting);
  return own;
}

void print_keys(const char* heading, std::span<const Key> keys) {
  std::printf("\n%s\n", heading);
  for (const Key& key : keys) {
    if (key.settings.size() > 30) {
      std::printf("  %s\n  %-30s  %s\n", std::string(key.settings).c_str(), "",
                  std::string(key.meaning).c_str());
    } else {
      std::printf("  %-30s  %s\n", std::string(key.settings).c_str(),
                  std::string(key.meaning).c_str());
    }
  }
}

void print_policies(std::span<const std::string_view> names,
                    std::span<const std::string_view> formulas, bool are_rules) {
  for (std::size_t i = 0; i < names.size(); ++i) {
    std::printf("  %-12s %s\n", std::string(names[i]).c_str(), std::string(formulas[i]).c_str());
    print_words("", 15, own_settings(names[i], are_rules));
  }
}

void print_named(const char* heading, std::span<const std::string_view> names,
                 std::span<const std::string_view> formulas) {
  std::printf("\n%s\n", heading);
  for (std::size_t i = 0; i < names.size(); ++i)
    std::printf("  %-23s %s\n", std::string(names[i]).c_str(), std::string(formulas[i]).c_str());
}

void print_all() {
  const auto names = fdroute::policy_names();
  const auto formulas = fdroute::policy_formulas();
  const std::size_t rules = fdroute::policy_rules();
  std::printf(
      "A policy is NAME[:KEY=VALUE,KEY=VALUE ...], as in bh:alpha=0.05,max_k=16. native is what\n"
      "the model itself does.\n"
      "\nRules: the number of experts of a token. p(1) <= ... <= p(m) are its p-values, P(1) >= "
      "...\n"
      "its softmax probabilities; a maximum of nothing is 0.\n");
  print_policies(names.first(rules), formulas.first(rules), true);
  print_keys("Settings of every rule:", every_rule);
  print_keys("Settings of rules that read p-values, from bh on:", rules_of_p);
  print_named("Rankings:", fdroute::ranking_names(), fdroute::ranking_formulas());
  print_named("Weights:", fdroute::weights_names(), fdroute::weights_formulas());
  std::printf("\nPresets: the routers of published models, by the keys of their config.json.\n");
  print_policies(names.subspan(rules), formulas.subspan(rules), false);
  print_keys("Settings of every preset:", every_preset);
  std::printf("\nModels: preset:TYPE for every model type of transformers; ? has no default.\n");
  for (const auto& model : fdroute::presets::model_table) {
    ConfigKeys config;
    fdroute::presets::read_spec(model, 64, config);
    print_words("  " + std::string(model.model_type), 25, config.keys);
  }
}

/// One policy, with all its settings. Throws as parse_router() does.
void print_one(const std::string& name) {
  const auto names = fdroute::policy_names();
  const auto found = std::ranges::find(names, name);
  const std::string policy = with_defaults(name, reads_p(name));  // throws if there is none
  if (found != names.end())
    std::printf(
        "%s\n",
        std::string(fdroute::policy_formulas()[static_cast<std::size_t>(found - names.begin())])
            .c_str());
  std::printf("%s\n", policy.c_str());
}

}  // namespace

void add_policies(CommandLine& line) {
  const Command command =
      line.subcommand("policies", "List the routing policies, their settings and formulas");
  const auto name = std::make_shared<std::optional<std::string>>();
  command.option("name", *name, "One of them: its formula, and all its settings at their defaults")
      .shown_as("[NAME]");
  command.example("olmoe policies bh");
  command.runs([name] { *name ? print_one(**name) : print_all(); });
}

}  // namespace olmoe

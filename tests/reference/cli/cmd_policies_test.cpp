// olmoe policies

#include <doctest/doctest.h>

#include <algorithm>
#include <fdroute/compile_once.hpp>
#include <fdroute/model_table.hpp>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "reference/run_olmoe.hpp"

namespace {

/// The keys that the parser says a policy accepts, asked by a key that there cannot be.
std::vector<std::string> accepted_keys(const std::string& policy) {
  const std::vector<float> bias(64);
  try {
    fdroute::parse_router(policy + (policy.find(':') == std::string::npos ? ":" : ",") + "~=1", 64,
                          fdroute::ParseOptions<>{.selection_bias = bias});
  } catch (const std::invalid_argument& error) {
    const std::string message = error.what();
    const std::string accepts = " accepts ";
    REQUIRE(message.find(accepts) != std::string::npos);
    std::istringstream words(message.substr(message.find(accepts) + accepts.size()));
    std::vector<std::string> keys;
    for (std::string word; words >> word;)
      keys.push_back(word.ends_with(',') ? word.substr(0, word.size() - 1) : word);
    return keys;
  }
  FAIL("not refused");
  return {};
}

bool is_rule(const std::string& name) {
  const auto names = fdroute::policy_names().first(fdroute::policy_rules());
  return std::ranges::find(names, name) != names.end();
}

/// Whether a policy cannot be without a null distribution.
bool reads_p(const std::string& name) {
  const std::vector<float> bias(64);
  try {
    fdroute::parse_router(name, 64, fdroute::ParseOptions<>{.selection_bias = bias});
  } catch (const std::invalid_argument& error) {
    return std::string(error.what()).find("needs a null distribution") != std::string::npos;
  }
  return false;
}

}  // namespace

TEST_CASE("policies lists every name with its formula, and every key that the parser asks for") {
  const Outcome all = run_olmoe({"policies"});
  REQUIRE(all.code == 0);
  const auto has = [&](const std::string& text) {
    CAPTURE(text);
    CHECK(all.out.find(text) != std::string::npos);
  };
  const auto names = fdroute::policy_names();
  const auto formulas = fdroute::policy_formulas();
  REQUIRE(names.size() == formulas.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string name(names[i]);
    has("\n  " + name + std::string(13 - name.size(), ' ') + std::string(formulas[i]) + "\n");
  }
  for (const auto& list : {fdroute::ranking_names(), fdroute::weights_names()}) {
    for (const auto& name : list) has("\n  " + std::string(name) + " ");
  }
  for (const auto& model : fdroute::presets::model_table)
    CHECK((all.out.find("\n  " + std::string(model.model_type) + " ") != std::string::npos ||
           all.out.find("\n  " + std::string(model.model_type) + "\n") != std::string::npos));

  for (const auto& name : names) {
    for (const std::string more :
         {"", "null=logistic", "ranking=group_limited(sigmoid)", "weights=scaled(sigmoid)"}) {
      std::string policy(name);
      const bool needs_null = reads_p(policy);
      if (!more.empty() && (!is_rule(policy) || (more.starts_with("null") && !needs_null)))
        continue;
      std::string settings = more;
      if (needs_null && !more.starts_with("null"))
        settings += (more.empty() ? "" : ",") + std::string("null=normal");
      if (!settings.empty()) policy += ":" + settings;
      CAPTURE(policy);
      for (const std::string& key : accepted_keys(policy)) has(" " + key + "=");
    }
  }
}

TEST_CASE("policies NAME says its formula and all its settings; an unknown one is refused") {
  const Outcome bh = run_olmoe({"policies", "bh"});
  CHECK(bh.out.starts_with("max { k : p(k) <= alpha k / m }\nbh:alpha=0.05,min_k=1,max_k=64,"));
  CHECK(std::ranges::count(bh.out, '\n') == 2);
  check_error({"policies", "hockberg"}, 2, {"did you mean 'hochberg'?"});
}

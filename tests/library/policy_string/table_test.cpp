// The table of policies: what reads it, what describes it, and rows of one's own beside it.

#include "fdroute/policy_settings.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "library/every_policy.hpp"
#include "library/support.hpp"

namespace fd = fdroute;

namespace {

std::set<std::string> table_names() {
  return {fd::policy_names().begin(), fd::policy_names().end()};
}

/// The lines of a file of the repository from the one that begins with `from` to the next that
/// begins with `to`.
std::vector<std::string> lines_between(const std::string& path, std::string_view from,
                                       std::string_view to) {
  std::ifstream file(FDROUTE_SOURCE_DIR "/" + path);
  REQUIRE_MESSAGE(file, path);
  std::vector<std::string> lines;
  bool inside = false;
  for (std::string line; std::getline(file, line);) {
    if (!inside && line.starts_with(from))
      inside = true;
    else if (inside && line.starts_with(to))
      return lines;
    else if (inside)
      lines.push_back(line);
  }
  FAIL(path, " lacks '", from, "' or, after it, '", to, "'");
  return lines;
}

/// What stands between backticks in the first cell of each row of the page's tables.
std::vector<std::string> first_cells(const std::vector<std::string>& page) {
  std::vector<std::string> cells;
  for (const std::string& line : page) {
    if (!line.starts_with("| `")) continue;
    const std::string cell = line.substr(2, line.find(" |", 2) - 2);
    for (std::size_t at = cell.find('`'); at != std::string::npos; at = cell.find('`', at + 1)) {
      const std::size_t end = cell.find('`', at + 1);
      cells.push_back(cell.substr(at + 1, end - at - 1));
      at = end;
    }
  }
  return cells;
}

/// The policies of the grammar in parse.hpp, each with its own settings at the values shown:
/// "topk:k=8". Of several values the first is the default.
std::vector<std::string> grammar() {
  std::vector<std::string> policies;
  std::vector<std::string> names;  // of the entry that is being read
  std::string settings;
  const auto flush = [&] {
    for (const std::string& name : names)
      if (name != "from bh on" && name != "all") policies.push_back(name + settings);
    names.clear();
    settings.clear();
  };
  const std::string margin = "///     ";
  for (std::string line :
       lines_between("include/fdroute/parse.hpp", "/// Makes a router", "template")) {
    if (!line.starts_with(margin)) continue;
    line.erase(0, margin.size());
    if (line.front() != ' ') {
      flush();
      const std::size_t end = std::min(line.find("  "), line.size());
      std::istringstream words(line.substr(0, end));
      for (std::string name; std::getline(words, name, ',');)
        names.push_back(name.substr(name.find_first_not_of(' ')));
      line.erase(0, end);
    }
    std::istringstream words(line);
    for (std::string word; words >> word;)
      settings.append(settings.empty() ? ":" : ",").append(word.substr(0, word.find('|')));
  }
  flush();
  return policies;
}

std::string name_of(const std::string& policy) {
  return policy.substr(0, policy.find(':'));
}

/// A rule as a stranger writes it: every p-value by itself.
struct Uncorrected {
  double level = 0.01;

  void validate() const {
    if (!(level > 0.0 && level < 1.0)) throw std::invalid_argument("Uncorrected: bad level");
  }
  int operator()(std::span<const double> sorted_p) const noexcept {
    return static_cast<int>(std::ranges::upper_bound(sorted_p, level) - sorted_p.begin());
  }
};

/// By critical values alpha k / m, which `off` tells otherwise than the call operator.
struct Line {
  double alpha = 0.05;
  double off = 1.0;

  double critical_value(int k, int m) const noexcept { return alpha * k / m * off; }
  int operator()(std::span<const double> sorted_p) const noexcept {
    return fd::BenjaminiHochberg{alpha}(sorted_p);
  }
};

/// Of logits, without a null distribution.
struct Positive {
  int operator()(std::span<const float> sorted_logits) const noexcept {
    return static_cast<int>(std::ranges::count_if(sorted_logits, [](float x) { return x > 0; }));
  }
};

struct EqualShares {
  void operator()(std::span<const float>, std::span<const std::int32_t> experts,
                  std::span<float> weights) const noexcept {
    std::ranges::fill(weights, 1.0F / static_cast<float>(experts.size()));
  }
};

const std::vector<fd::PolicyMaker<>> own{
    {"uncorrected", [](auto& s) { return s.route_by(Uncorrected{s.number("level", 0.01)}); }},
    {"line",
     [](auto& s) {
       return s.route_by(Line{s.number("alpha", 0.05), s.number("off", 1.0)});
     }},
    {"positive", [](auto& s) { return s.route_by(Positive{}); }},
    {"hc-tail",
     [](auto& s) { return s.route_by(fd::HigherCriticism{.search = s.number("search", 0.25)}); }},
    {"equal",
     [](auto& s) {
       const int k = s.number("k", 2);
       return s.finish(fd::Router(s.experts(), fd::TopK{k}, EqualShares{}));
     }},
};

fd::AnyRouter parse_own(const std::string& policy) {
  return fd::parse_router(policy, 16, fd::ParseOptions<>{.makers = own});
}

std::string own_rejection(const std::string& policy) {
  return test::rejection_of([&] { parse_own(policy); });
}

}  // namespace

TEST_CASE("names are unique, and an error lists them in the table's order") {
  CHECK(table_names().size() == fd::policy_names().size());
  std::string list;
  for (const std::string_view name : fd::policy_names())
    list.append(list.empty() ? "" : ", ").append(name);
  CHECK(test::rejection_of([] { fd::parse_router("?", 16); }) ==
        "policy '?', position 1: unknown policy '?'; accepted are " + list);
  // Every name is a rule's or a preset's.
  const auto presets = test::names_of_presets();
  CHECK(test::names_of_null_free_rules().size() + test::names_of_rules_of_p().size() +
            presets.size() ==
        fd::policy_names().size());
  CHECK(std::equal(presets.rbegin(), presets.rend(), fd::policy_names().rbegin()));
}

TEST_CASE("the grammar of parse_router() is the table") {
  std::set<std::string> names;
  for (const std::string& policy : grammar()) {
    CAPTURE(policy);
    const std::string name = name_of(policy);
    CHECK(names.insert(name).second);
    REQUIRE(table_names().contains(name));
    const std::string written = test::written_out(name);
    CHECK(written.substr(0, written.find(",min_k=")) == policy);
  }
  CHECK(names == table_names());
}

TEST_CASE("the keys and values of the grammar are those that strings take, in the docs as well") {
  const std::vector<float> bias(16);
  const auto null = fd::TabulatedNull::from_log_survival({-1.0, 1.0}, {-0.5, -2.0},  //
                                                         test::fitted_on("zscore"));
  const fd::ConformalNull conformal({0.0, 1.0}, test::fitted_on("zscore"));
  const std::vector<fd::TabulatedNull> per_expert(16, null);
  const std::vector<double> prior(16, 1.0);
  const fd::ParseOptions<> options{
      .null = &null, .selection_bias = bias, .conformal = &conformal, .expert_nulls = per_expert};
  fd::ParseOptions<> with_prior = options;
  with_prior.prior = prior;
  // Every key that some string reads.
  std::set<std::string> keys{"ranking", "ties", "weights", "prior", "rule"};
  const auto read = [&](const std::string& policy, const fd::ParseOptions<>& given) {
    CAPTURE(policy);
    const std::string text = fd::parse_router(policy, 16, given).policy();
    std::istringstream items(text.substr(text.find(':') + 1));
    for (std::string item; std::getline(items, item, ',');)
      keys.insert(item.substr(0, item.find('=')));
  };
  std::string values;
  for (const auto names : {fd::null_names(), fd::ranking_names(), fd::weights_names()}) {
    const std::string key = names.data() == fd::null_names().data()      ? "null"
                            : names.data() == fd::ranking_names().data() ? "ranking"
                                                                         : "weights";
    std::string list = key + "=";
    std::string cell = "| `" + key + "` | ";
    for (const std::string_view name : names) {
      read("bh:" + key + "=" + std::string(name), options);
      list.append(list.ends_with('=') ? "" : "|").append(name);
      cell.append(cell.ends_with("| ") ? "`" : ", `").append(name).append("`");
    }
    const auto lines = lines_between("include/fdroute/parse.hpp", "/// Makes a router", "template");
    CHECK(std::ranges::any_of(lines,
                              [&](const std::string& line) { return line.ends_with(" " + list); }));
    const auto rows = lines_between("docs/policies.md", "## Strings", "## Your own");
    CHECK(std::ranges::any_of(
        rows, [&](const std::string& row) { return row.starts_with(cell + " |"); }));
  }
  read("bh", with_prior);
  read("bh:mass_exponent=0.5", options);
  std::set<std::string> documented;
  for (const std::string& key :
       first_cells(lines_between("docs/policies.md", "## Strings", "## Your own")))
    documented.insert(key);
  keys.erase("alpha");  // the rule's own
  CHECK(documented == keys);
}

TEST_CASE("docs/policies.md lists the table") {
  std::set<std::string> names;
  for (const std::string& policy :
       first_cells(lines_between("docs/policies.md", "## Rules", "## Presets"))) {
    CAPTURE(policy);
    REQUIRE(table_names().contains(name_of(policy)));
    CHECK(names.insert(name_of(policy)).second);
    CHECK(test::written_out(name_of(policy)).starts_with(policy + ",min_k="));
  }
  const auto presets = first_cells(lines_between("docs/policies.md", "## Presets", "## Strings"));
  const auto known = test::names_of_presets();
  CHECK(std::set(presets.begin(), presets.end()) == std::set(known.begin(), known.end()));
  names.insert(presets.begin(), presets.end());
  CHECK(names == table_names());
}

TEST_CASE("a stranger's policy is parsed like the library's") {
  test::Random random(73);
  const test::Batch batch = test::batch_of_every_kind(16, 12, random);
  const auto alike = [&](const std::string& policy, const auto& router) {
    CAPTURE(policy);
    const fd::AnyRouter parsed = parse_own(policy);
    CHECK(parse_own(parsed.policy()).policy() == parsed.policy());
    return test::routed(parsed, batch.view()) == test::routed(router, batch.view());
  };
  const fd::ZScore score{};
  const fd::NormalNull null{0.0, 0.5};
  CHECK(alike("uncorrected:level=0.2,null=normal,sd=0.5",
              fd::Router(16, Uncorrected{0.2}, score, null)));
  CHECK(alike("line:alpha=0.6,null=normal,sd=0.5,min_k=0,max_k=3,renormalize=true",
              fd::Router(16, Line{0.6}, score, null, fd::SoftmaxWeights{.renormalize = true},
                         fd::ExpertBounds{0, 3})));
  CHECK(alike("positive:max_k=5",
              fd::Router(16, Positive{}, fd::SoftmaxWeights{}, fd::ExpertBounds{1, 5})));
  fd::HigherCriticism gated{.search = 0.25};
  gated.critical = fd::critical_statistic(gated, 16, 0.3);
  CHECK(alike("hc-tail:level=0.3,null=normal,sd=0.5", fd::Router(16, gated, score, null)));
  CHECK(alike("equal:k=3", fd::Router(16, fd::TopK{3}, EqualShares{})));
  CHECK(alike("topk:k=3", fd::Router(16, fd::TopK{3})));  // the library's are still there
  CHECK(parse_own("uncorrected:null=logistic").policy() ==
        "uncorrected:level=0.01,min_k=1,max_k=16,null=logistic,score=zscore,location=0,"
        "scale=0.5513288954217921,temperature=1,renormalize=false");
  // Another registry knows nothing of it.
  CHECK(test::rejection_of([] {
          fd::parse_router("equal", 16);
        }).starts_with("policy 'equal', position 1: unknown policy 'equal'; accepted are topk,"));
}

TEST_CASE("a stranger's policy is refused like the library's") {
  std::string list;
  for (const std::string_view name : fd::policy_names()) list.append(name).append(", ");
  CHECK(own_rejection("?") == "policy '?', position 1: unknown policy '?'; accepted are " + list +
                                  "uncorrected, line, positive, hc-tail, equal");
  CHECK(own_rejection("equal:n=3") ==
        "policy 'equal:n=3', position 7: unknown key 'n'; equal accepts k");
  CHECK(own_rejection("positive:k=3") ==
        "policy 'positive:k=3', position 10: unknown key 'k'; positive accepts min_k, max_k, "
        "ranking, ties, weights, temperature, renormalize, mass_exponent, mass_k");
  CHECK(own_rejection("uncorrected:level=x,null=normal") ==
        "policy 'uncorrected:level=x,null=normal', position 19: level takes a number, got 'x'");
  CHECK(own_rejection("uncorrected:level=2,null=normal") ==
        "policy 'uncorrected:level=2,null=normal': Uncorrected: bad level");
  CHECK(own_rejection("uncorrected") ==
        "policy 'uncorrected' needs a null distribution: give a fitted one, or null=normal");
  CHECK(own_rejection("equal:k=17") ==
        "policy 'equal:k=17': TopK: k must lie in [1, 16], the number of experts, got 17");
  // The router goes by critical values: they must be the rule.
  CHECK(own_rejection("line:alpha=0.6,off=0.5,null=normal")
            .starts_with("policy 'line:alpha=0.6,off=0.5,null=normal': Router: the rule's call "
                         "operator counts "));
}

TEST_CASE("makers may hold what a string cannot, and no two have one name") {
  std::vector<double> seen;
  const std::array<fd::PolicyMaker<>, 1> counting{{{"counted", [&seen](fd::PolicySettings<>& s) {
                                                      seen.push_back(s.number("x", 0.5));
                                                      return s.route_by(fd::TopK{1});
                                                    }}}};
  fd::parse_router("counted:x=7", 16, fd::ParseOptions<>{.makers = counting});
  CHECK(seen == std::vector{7.0});

  const std::vector<fd::PolicyMaker<>> twice{counting[0], counting[0], {"bh", counting[0].make}};
  const fd::ParseOptions<> options{.makers = twice};
  CHECK(test::rejection_of([&] { fd::parse_router("counted", 16, options); }) ==
        "policy 'counted': two makers are called 'counted'");
  CHECK(test::rejection_of([&] { fd::parse_router("bh:null=normal", 16, options); }) ==
        "policy 'bh:null=normal': two makers are called 'bh'");
  CHECK(test::rejection_of([&] { fd::parse_router("topk", 16, options); }) == "no error");
}

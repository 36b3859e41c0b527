#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// What transformers' own routers did: tests/golden/routers. The format stands in
/// tests/golden/routers_transformers.py.

namespace golden {

/// What a module did with one row of logits.
struct Row {
  char mark = '=';
  std::vector<float> logits{};   // (experts)
  std::vector<int> experts{};    // (top_k)
  std::vector<float> weights{};  // (top_k)
};

/// One config of a model.
struct Case {
  int experts = 0;
  std::vector<std::pair<std::string, std::string>> settings{};
  std::string config{};
  std::vector<float> bias{};          // (experts), or empty
  std::vector<float> expert_scale{};  // (experts), or empty
  std::vector<std::int32_t> table{};  // (vocabulary, top_k), or empty
  std::vector<Row> rows{};
  double loss = 0.0;  // 0: not recorded
};

struct Model {
  std::map<std::string, std::string> defaults{};
  std::vector<Case> cases{};
};

inline const std::filesystem::path folder = FDROUTE_SOURCE_DIR "/tests/golden/routers";

/// The models that have a file.
inline std::set<std::string> models() {
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.insert(entry.path().stem().string());
  names.erase("rows");
  return names;
}

inline std::vector<float> floats(std::istream& in) {
  std::vector<float> values;
  for (std::string text; in >> text;) values.push_back(std::strtof(text.c_str(), nullptr));
  return values;
}

inline std::pair<std::string, std::string> setting(const std::string& pair) {
  const std::size_t equals = pair.find('=');
  return {pair.substr(0, equals), pair.substr(equals + 1)};
}

inline std::ifstream opened(const std::string& name) {
  std::ifstream file(folder / (name + ".txt"));
  REQUIRE_MESSAGE(file, name);
  return file;
}

/// The shared rows of logits, by their number of experts.
inline const std::map<int, std::vector<std::vector<float>>>& shared_rows() {
  static const auto rows = [] {
    std::map<int, std::vector<std::vector<float>>> read;
    int experts = 0;
    std::ifstream file = opened("rows");
    for (std::string line; std::getline(file, line);) {
      std::istringstream in(line);
      std::string word;
      in >> word;
      if (word == "experts") {
        in >> experts;
      } else if (word == "row") {
        in >> word;
        read[experts].push_back(floats(in));
        REQUIRE(read[experts].back().size() == static_cast<std::size_t>(experts));
      }
    }
    return read;
  }();
  return rows;
}

inline void add_row(const std::string& mark, std::istream& in, std::vector<float> own, Case& to) {
  REQUIRE(mark.size() == 1);
  Row row{.mark = mark[0], .logits = std::move(own)};
  if (row.logits.empty()) row.logits = shared_rows().at(to.experts).at(to.rows.size());
  int expert = 0;
  for (std::string weight; in >> expert >> weight;) {
    row.experts.push_back(expert);
    row.weights.push_back(std::strtof(weight.c_str(), nullptr));
  }
  to.rows.push_back(std::move(row));
}

inline Model read(const std::string& name) {
  Model model;
  std::ifstream file = opened(name);
  std::vector<float> own_logits;
  for (std::string line; std::getline(file, line);) {
    std::istringstream in(line);
    std::string word;
    in >> word;
    if (word == "#") continue;
    if (word == "defaults") {
      for (std::string pair; in >> pair;) model.defaults.insert(setting(pair));
    } else if (word == "case") {
      model.cases.emplace_back();
      in >> model.cases.back().experts;
      for (std::string pair; in >> pair;) model.cases.back().settings.push_back(setting(pair));
    } else if (word == "config") {
      model.cases.back().config = line.substr(word.size() + 1);
    } else if (word == "bias") {
      model.cases.back().bias = floats(in);
    } else if (word == "expert_scale") {
      model.cases.back().expert_scale = floats(in);
    } else if (word == "token") {
      for (std::int32_t id = 0; in >> id;) model.cases.back().table.push_back(id);
    } else if (word == "logits") {
      own_logits = floats(in);
    } else if (word == "loss") {
      model.cases.back().loss = static_cast<double>(floats(in)[0]);
    } else {
      add_row(word, in, std::exchange(own_logits, {}), model.cases.back());
    }
  }
  return model;
}

/// transformers computes weights in several float operations, each rounded.
constexpr double weight_tolerance = 1e-6;

inline void check_weight(float ours, float theirs) {
  const auto expected = static_cast<double>(theirs);
  // Float softmaxes of logits far apart are subnormal or 0.
  const double tolerance = weight_tolerance * std::abs(expected) + 1e-37;
  CHECK(std::abs(static_cast<double>(ours) - expected) <= tolerance);
}

inline bool is_masked(const Row& row, int expert) {
  return row.logits[static_cast<std::size_t>(expert)] == -INFINITY;
}

/// Checks a routing of the row against the recorded one, as far as its mark determines it.
inline void check_row(const Row& row, const std::vector<int>& experts,
                      const std::vector<float>& weights) {
  REQUIRE(experts.size() == row.experts.size());
  for (const float weight : weights) CHECK(std::isfinite(weight));
  CHECK(std::set(experts.begin(), experts.end()).size() == experts.size());
  // Experts of a logit are selected before those that are masked, whatever transformers does.
  const auto masked = std::ranges::count_if(experts, [&](int e) { return is_masked(row, e); });
  const auto finite = std::ranges::count_if(row.logits, [](float x) { return std::isfinite(x); });
  CHECK(masked == std::max<std::ptrdiff_t>(0, std::ssize(experts) - finite));
  if (row.mark == '=') {
    CHECK(std::set(experts.begin(), experts.end()) ==
          std::set(row.experts.begin(), row.experts.end()));
    for (std::size_t i = 0; i < experts.size(); ++i) {
      const auto there = std::ranges::find(row.experts, experts[i]);
      if (there == row.experts.end()) continue;  // reported above
      check_weight(weights[i], row.weights[static_cast<std::size_t>(there - row.experts.begin())]);
    }
  } else if (row.mark == '~') {
    std::vector<float> ours = weights;
    std::vector<float> theirs = row.weights;
    std::ranges::sort(ours);
    std::ranges::sort(theirs);
    for (std::size_t i = 0; i < ours.size(); ++i) check_weight(ours[i], theirs[i]);
  } else {
    CHECK(std::string_view("!nx").find(row.mark) != std::string_view::npos);
  }
}

}  // namespace golden

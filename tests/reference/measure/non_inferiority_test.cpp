// Claims of savings: what they are by hand, and what they promise on real losses. The losses are
// those of the bundled model's documents under policies of grid bh21, in
// tests/data/document_losses.csv: a line a document, a column a policy with its mean experts.

#include "measure/non_inferiority.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <fstream>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "measure/student_t.hpp"

namespace {

const double margin = std::log(1.005);

/// Policies in a family's order: their mean experts and nll differences to the baseline.
struct Family {
  std::vector<double> experts;              // (policies)
  std::vector<std::vector<double>> deltas;  // (policies) x (documents)
};

Family read_family() {
  std::ifstream file(FDROUTE_SOURCE_DIR "/tests/data/document_losses.csv");
  Family family;
  std::string line;
  std::getline(file, line);
  std::istringstream head(line);
  for (std::string mean; std::getline(head, mean, ',');) family.experts.push_back(std::stod(mean));
  family.deltas.resize(family.experts.size());
  while (std::getline(file, line)) {
    std::istringstream fields(line);
    std::string value;
    for (auto& policy : family.deltas) {
      std::getline(fields, value, ',');
      policy.push_back(std::stod(value));
    }
  }
  return family;
}

/// What a report on these documents claims: the largest saving before the stop.
double claimed_saving(const Family& family, const std::vector<std::size_t>& documents) {
  std::vector<std::vector<double>> p(1);
  for (const auto& policy : family.deltas) {
    std::vector<double> drawn;
    for (const std::size_t d : documents) drawn.push_back(policy[d]);
    p[0].push_back(olmoe::p_not_below(olmoe::document_mean(drawn), margin));
  }
  double saving = 0.0;
  const std::size_t claimed = olmoe::test_in_sequence(p, 0.05)[0];
  for (std::size_t i = 0; i < claimed; ++i)
    saving = std::max(saving, 1.0 - family.experts[i] / 8.0);
  return saving;
}

std::vector<std::size_t> random_order(std::size_t n, std::mt19937& random) {
  std::vector<std::size_t> order(n);
  for (std::size_t i = 0; i < n; ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), random);
  return order;
}

}  // namespace

TEST_CASE("Mean, error, interval and p-value, by hand") {
  // Mean 3, sum of squares 10; sd^2 = 2.5, error^2 = 0.5.
  const auto five = olmoe::document_mean(std::vector{1.0, 2.0, 3.0, 4.0, 5.0});
  CHECK(five.value == doctest::Approx(3.0));
  CHECK(five.error == doctest::Approx(std::sqrt(0.5)));
  CHECK(five.degrees_of_freedom() == 4.0);
  const auto interval = olmoe::interval(five, 0.9);
  CHECK(interval.low == doctest::Approx(3.0 - 2.131846786 * std::sqrt(0.5)));
  CHECK(interval.high == doctest::Approx(3.0 + 2.131846786 * std::sqrt(0.5)));
  CHECK(olmoe::p_not_below(five, 100.0) == 1.0);  // fewer than ten documents
  CHECK(olmoe::p_zero(five) == 1.0);
  CHECK(olmoe::document_mean(std::vector{2.0}).error == 0.0);
  CHECK_THROWS_AS(olmoe::interval(olmoe::document_mean(std::vector{2.0}), 0.9),
                  std::invalid_argument);

  const olmoe::DocumentMean twenty{.documents = 20, .value = 0.001, .error = 0.002};
  const double t = olmoe::student_t_quantile(0.95, 19.0);
  for (const double step : {-1e-9, 1e-9}) {
    const double at_bound = twenty.value + t * twenty.error + step;
    CHECK((olmoe::p_not_below(twenty, at_bound) <= 0.05) == (step > 0.0));
  }
  CHECK(olmoe::p_zero(twenty) == doctest::Approx(2.0 * olmoe::student_t_upper_tail(0.5, 19.0)));
  const olmoe::DocumentMean sure{.documents = 20, .value = 0.0, .error = 0.0};
  CHECK(olmoe::p_not_below(sure, 0.1) == 0.0);
  CHECK(olmoe::p_not_below(sure, 0.0) == 1.0);
  CHECK(olmoe::p_zero(sure) == 1.0);
}

TEST_CASE("A family is tested in its order; families share the level and pass it on") {
  using P = std::vector<std::vector<double>>;
  using Counts = std::vector<std::size_t>;
  // One family: the fixed sequence stops at the first above 0.05.
  CHECK(olmoe::test_in_sequence(P{{0.01, 0.05, 0.06, 0.001}}, 0.05) == Counts{2});
  CHECK(olmoe::test_in_sequence(P{{0.2, 0.0}}, 0.05) == Counts{0});
  // Families of one hypothesis: Holm. Levels 0.05 / 3, then / 2, then / 1.
  CHECK(olmoe::test_in_sequence(P{{0.04}, {0.01}, {0.02}}, 0.05) == Counts{1, 1, 1});
  CHECK(olmoe::test_in_sequence(P{{0.04}, {0.01}, {0.026}}, 0.05) == Counts{0, 1, 0});
  CHECK(olmoe::test_in_sequence(P{{0.04}, {0.02}, {0.03}}, 0.05) == Counts{0, 0, 0});
  // A family gives its level away only when all of it is rejected.
  CHECK(olmoe::test_in_sequence(P{{0.01, 0.3}, {0.04}}, 0.05) == Counts{1, 0});
  CHECK(olmoe::test_in_sequence(P{{0.01, 0.02}, {0.04, 0.9}}, 0.05) == Counts{2, 1});
  CHECK(olmoe::test_in_sequence(P{{}, {0.04}}, 0.05) == Counts{0, 1});
}

TEST_CASE("Of true hypotheses in several families, any is rejected with a probability of 5 %") {
  std::mt19937 random(11);
  std::uniform_real_distribution<double> uniform;
  constexpr int rounds = 20'000;
  int false_claims = 0;
  for (int round = 0; round < rounds; ++round) {
    // Two false hypotheses, always rejected, and before, between and after them true ones.
    const std::vector<std::vector<double>> p{
        {0.0, uniform(random), uniform(random)}, {0.0}, {uniform(random)}};
    const auto rejected = olmoe::test_in_sequence(p, 0.05);
    if (rejected[0] > 1 || rejected[2] > 0) ++false_claims;
  }
  CHECK(false_claims <= 0.05 * rounds + 4.0 * std::sqrt(0.05 * 0.95 * rounds));
  CHECK(false_claims >= 0.04 * rounds);  // and the level is used
}

TEST_CASE("Less text never reports a larger saving") {
  const Family family = read_family();
  const std::size_t documents = family.deltas.front().size();
  REQUIRE(documents >= 30);
  std::mt19937 random(1);
  constexpr int draws = 200;
  std::vector<double> mean(4, 0.0);  // of 1/8, 1/4, 1/2 and all of the documents
  for (int draw = 0; draw < draws; ++draw) {
    auto order = random_order(documents, random);
    for (std::size_t part = 0; part < mean.size(); ++part) {
      const std::size_t n = documents >> (mean.size() - 1 - part);
      mean[part] +=
          claimed_saving(family, {order.begin(), order.begin() + static_cast<std::ptrdiff_t>(n)}) /
          draws;
    }
  }
  CAPTURE(mean[0]);
  CAPTURE(mean[1]);
  CAPTURE(mean[2]);
  CAPTURE(mean[3]);
  for (std::size_t part = 1; part < mean.size(); ++part) CHECK(mean[part] >= mean[part - 1]);
  CHECK(mean.back() > 0.0);
}

TEST_CASE("A policy that costs the margin is claimed on at most 5 % of the samples of documents") {
  // Real differences, moved so that their mean is the margin, are the world; a sweep draws from it.
  const Family family = read_family();
  std::mt19937 random(2);
  constexpr int rounds = 4000;
  for (std::size_t policy = 0; policy < family.deltas.size(); ++policy) {
    std::vector<double> world = family.deltas[policy];
    const double mean = olmoe::document_mean(world).value;
    for (double& delta : world) delta += margin - mean;
    std::uniform_int_distribution<std::size_t> any(0, world.size() - 1);
    int claims = 0;
    for (int round = 0; round < rounds; ++round) {
      std::vector<double> drawn;
      for (std::size_t d = 0; d < world.size(); ++d) drawn.push_back(world[any(random)]);
      claims += olmoe::p_not_below(olmoe::document_mean(drawn), margin) <= 0.05 ? 1 : 0;
    }
    CAPTURE(family.experts[policy]);
    CAPTURE(claims);
    CHECK(claims <= 0.05 * rounds + 4.0 * std::sqrt(0.05 * 0.95 * rounds));
  }
}

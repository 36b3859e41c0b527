#include "fdroute/eigen_testing.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "fdroute/null/normal.hpp"
#include "fdroute/null/per_expert.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/logit.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/holm.hpp"
#include "fdroute/selection/topk.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
using test::index;

namespace {

/// Calls visit with a vector in every form: these are all the same numbers.
template <class T, class Visit>
void in_every_form(const std::vector<T>& values, const Visit& visit) {
  const auto n = static_cast<Eigen::Index>(values.size());
  const Eigen::Map<const Eigen::VectorX<T>> map(values.data(), n);
  visit(map);
  const Eigen::VectorX<T> column = map;
  visit(column);
  visit(column.transpose());
  visit(column.array());
  visit(T(2) * (T(0.5) * column));
  Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic> several(n, 3);
  several.setZero();
  several.col(1) = column;
  visit(several.col(1));
  visit(several.transpose().row(1));
  visit(several.middleCols(1, 1));
  Eigen::Tensor<T, 1> tensor(n);
  for (Eigen::Index i = 0; i < n; ++i) tensor(i) = values[index(i)];
  visit(tensor);
  visit(tensor + tensor.constant(T(-0.0)));
  Eigen::Tensor<T, 2> rows(2, n);
  rows.setZero();
  rows.template chip<0>(1) = tensor;
  visit(rows.template chip<0>(1));
}

bool same(double a, double b) {
  return a == b || (std::isnan(a) && std::isnan(b));
}

}  // namespace

TEST_CASE("scores of vectors are the maps of the logits") {
  test::Random random(151);
  for (const test::Rows kind : {test::Rows::random, test::Rows::quantised, test::Rows::some_nan,
                                test::Rows::some_infinite, test::Rows::all_nan}) {
    const std::vector<float> logits = test::random_row(kind, 20, random);
    bool any_finite = false;
    for (const float x : logits) any_finite |= std::isfinite(x);
    const auto check = [&](const auto& score) {
      const fd::ScoreMap map = any_finite ? score(std::span(logits)) : fd::ScoreMap{};
      in_every_form(logits, [&](const auto& v) {
        const Eigen::VectorXf scores = fd::scores(score, v);
        REQUIRE(scores.size() == 20);
        int wrong = 0;
        for (Eigen::Index j = 0; j < 20; ++j) {
          const float x = logits[index(j)];
          wrong += static_cast<int>(!same(scores(j), any_finite ? map(x) : x));
        }
        CHECK(wrong == 0);
      });
    };
    check(fd::Logit{});
    check(fd::LogSoftmax{});
    check(fd::ZScore{});
  }
}

TEST_CASE("p-values of vectors are the null's; NaN and -inf have 1") {
  const fd::NormalNull null{.mean = 0.5, .sd = 2.0};
  const std::vector<float> scores{0.0F, 3.0F, test::nan, -test::infinity, test::infinity, -2.5F};
  in_every_form(scores, [&](const auto& v) {
    const Eigen::VectorXd p = fd::p_values(null, v);
    int wrong = 0;
    for (Eigen::Index j = 0; j < 6; ++j) {
      const auto score = static_cast<double>(scores[index(j)]);
      const double expected = std::isnan(score) || score == -HUGE_VAL ? 1.0 : null(score);
      wrong += static_cast<int>(p(j) != expected);
    }
    CHECK(wrong == 0);
  });

  struct OfExpert {
    double operator()(double score, int expert) const noexcept {
      return fd::NormalNull{.mean = expert + 0.0, .sd = 1.0}(score);
    }
  };
  const Eigen::VectorXd own = fd::p_values(OfExpert{}, Eigen::VectorXf::Zero(3));
  for (int j = 0; j < 3; ++j) CHECK(own(j) == fd::NormalNull{.mean = j + 0.0, .sd = 1.0}(0.0));
}

TEST_CASE("rules on vectors of p-values are the rules on spans") {
  test::Random random(152);
  for (int round = 0; round < 20; ++round) {
    std::vector<double> p;
    for (int j = 0; j < 15; ++j) {
      const double u = random.uniform();
      p.push_back(random.below(9) == 0 ? std::nan("") : u * u * u);
    }
    const auto check = [&](const auto& rule) {
      const int count = fd::rejections(rule, std::span<const double>(p));
      const std::optional<double> largest = fd::threshold(rule, std::span<const double>(p));
      std::vector<double> adjusted(p.size());
      fd::adjusted(rule, std::span<const double>(p), adjusted);
      in_every_form(p, [&](const auto& v) {
        CHECK(fd::rejections(rule, v) == count);
        CHECK(fd::threshold(rule, v) == largest);
        const Eigen::VectorXd of = fd::adjusted(rule, v);
        const Eigen::ArrayX<bool> rejected = fd::rejected(rule, v);
        CHECK(rejected.count() == count);
        int wrong = 0;
        for (Eigen::Index j = 0; j < 15; ++j) {
          const double at = p[index(j)];
          wrong += static_cast<int>(of(j) != adjusted[index(j)]);
          wrong += static_cast<int>(rejected(j) != (count > 0 && at <= *largest));
        }
        CHECK(wrong == 0);
      });
    };
    check(fd::BenjaminiHochberg{0.2});
    check(fd::Holm{0.3});
  }
  const Eigen::VectorXd p = Eigen::VectorXd::Constant(3, std::nan(""));
  CHECK(fd::rejected(fd::TopK{3}, p).count() == 3);
}

TEST_CASE("weighted p-values of vectors; matrices are refused") {
  const Eigen::Vector3d p(0.1, 0.2, 0.9);
  const Eigen::Vector3d weights(0.5, 2.5, 0.0);
  const Eigen::VectorXd weighted = fd::weighted_p_values(p, weights);
  CHECK((weighted(0) == 0.2 && weighted(1) == doctest::Approx(0.08) && weighted(2) == 1.0));
  CHECK(test::rejection_of([&] { fd::rejections(fd::Holm{}, Eigen::MatrixXd::Zero(2, 3)); }) ==
        "a vector has one row or one column, got (2, 3)");
}

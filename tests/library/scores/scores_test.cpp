#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string_view>
#include <vector>

#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/logit.hpp"
#include "fdroute/score/robust_zscore.hpp"
#include "fdroute/score/zscore.hpp"
#include "library/oracle.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
using test::index;

static_assert(fd::Score<fd::Logit> && fd::Score<fd::LogSoftmax> && fd::Score<fd::ZScore>);
static_assert(fd::Logit::name == "logit");
static_assert(fd::LogSoftmax::name == "log_softmax");
static_assert(fd::ZScore::name == "zscore");
static_assert(fd::Score<fd::RobustZScore> && fd::RobustZScore::name == "robust_zscore");

namespace {

using Limits = std::numeric_limits<float>;

/// The scores of a row, in the order of the logits. The shift may be `shift_error` from the
/// definition's, and then rounded; the scale is the definition's, bit for bit.
template <class Score>
void check_definition(Score score, oracle::Score definition, double shift_error) {
  test::Random random(21);
  int rows = 0;
  for (const int experts : {1, 2, 3, 8, 64, 65, 127, 1024}) {
    const test::Batch batch = test::batch_of_every_kind(experts, experts < 1000 ? 25 : 3, random);
    for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t) {
      const std::vector<float> row = batch.row(t);
      if (oracle::finite_values(row).empty()) continue;
      const fd::ScoreMap map = score(row);
      const oracle::Map expected = oracle::score_map(definition, row);
      if (shift_error == 0.0) {
        CHECK(map.shift == expected.shift);
      } else {
        const double ulp = std::abs(static_cast<double>(expected.shift)) * 0x1p-23;
        CHECK(std::abs(double{map.shift} - double{expected.shift}) <= shift_error + ulp);
      }
      CHECK(map.scale == expected.scale);
      CHECK(std::isfinite(map.shift));
      CHECK((map.scale > 0.0F && std::isfinite(map.scale)));
      const std::vector<int> order = oracle::order(row);
      for (std::size_t i = 0; i < order.size(); ++i) {
        const std::size_t j = index(order[i]);
        if (std::isnan(row[j])) {
          CHECK(std::isnan(map(row[j])));
          continue;
        }
        CHECK(map(row[j]) == (row[j] - map.shift) * map.scale);
        // Infinite logits have infinite scores, and no score overtakes another.
        if (std::isinf(row[j])) CHECK(map(row[j]) == row[j]);
        if (i > 0) CHECK(map(row[j]) <= map(row[index(order[i - 1])]));
      }
      ++rows;
    }
  }
  CHECK(rows > 1700);
}

template <class Score>
fd::ScoreMap map_of(Score score, const std::vector<float>& row) {
  return score(row);
}

}  // namespace

TEST_CASE("scores are their definitions") {
  SUBCASE("logit") {
    check_definition(fd::Logit{}, oracle::Score::logit, 0.0);
  }
  SUBCASE("log_softmax") {
    check_definition(fd::LogSoftmax{}, oracle::Score::log_softmax, 2.5e-7);
  }
  SUBCASE("zscore") {
    check_definition(fd::ZScore{}, oracle::Score::zscore, 0.0);
  }
  SUBCASE("robust_zscore") {
    check_definition(fd::RobustZScore{}, oracle::Score::robust_zscore, 0.0);
  }
}

TEST_CASE("scores of rows done by hand") {
  CHECK(map_of(fd::Logit{}, {3.0F, -1.0F})(3.0F) == 3.0F);
  CHECK(map_of(fd::LogSoftmax{}, {0.0F, 0.0F}).shift == 0.693147180559945309F);
  CHECK(map_of(fd::LogSoftmax{}, {5.0F}).shift == 5.0F);
  CHECK(map_of(fd::LogSoftmax{}, {1.0F, 2.0F, 3.0F}).shift == 3.40760596444437887F);
  CHECK(map_of(fd::ZScore{}, {1.0F, 3.0F}).shift == 2.0F);
  CHECK(map_of(fd::ZScore{}, {1.0F, 3.0F}).scale == 1.0F);
  CHECK(map_of(fd::ZScore{}, {2.0F, 4.0F, 4.0F, 4.0F, 5.0F, 5.0F, 7.0F, 9.0F}).shift == 5.0F);
  CHECK(map_of(fd::ZScore{}, {2.0F, 4.0F, 4.0F, 4.0F, 5.0F, 5.0F, 7.0F, 9.0F}).scale == 0.5F);
}

TEST_CASE("robust zscores by hand") {
  // Median 4.5, deviations 2.5 .5 .5 .5 .5 .5 2.5 4.5.
  const fd::ScoreMap map =
      map_of(fd::RobustZScore{}, {2.0F, 4.0F, 4.0F, 4.0F, 5.0F, 5.0F, 7.0F, 9.0F});
  CHECK(map.shift == 4.5F);
  CHECK(map.scale == static_cast<float>(1.0 / (1.4826022185056018 * 0.5)));
  // Ten strong experts of 65 move neither median nor MAD.
  std::vector<float> row;
  for (int j = 0; j < 65; ++j) row.push_back(static_cast<float>(j - 32));
  const fd::ScoreMap before = map_of(fd::RobustZScore{}, row);
  CHECK(before.shift == 0.0F);
  CHECK(before.scale == static_cast<float>(1.0 / (1.4826022185056018 * 16.0)));
  for (std::size_t j = 55; j < 65; ++j) row[j] += 1000.0F;
  const fd::ScoreMap after = map_of(fd::RobustZScore{}, row);
  CHECK(after.shift == before.shift);
  CHECK(after.scale == before.scale);
  // With more than half of the logits equal there is no spread.
  CHECK(map_of(fd::RobustZScore{}, {1.0F, 1.0F, 1.0F, 2.0F}).scale == Limits::max());
  CHECK(map_of(fd::RobustZScore{}, {1.0F, 1.0F, 1.0F, 2.0F})(1.0F) == 0.0F);
}

TEST_CASE("scores leave out what is not finite") {
  const std::vector<float> with{test::nan, 1.0F, test::infinity, 3.0F, -test::infinity};
  CHECK(map_of(fd::LogSoftmax{}, with).shift == map_of(fd::LogSoftmax{}, {1.0F, 3.0F}).shift);
  CHECK(map_of(fd::ZScore{}, with).shift == 2.0F);
  CHECK(map_of(fd::ZScore{}, with).scale == 1.0F);
  CHECK(map_of(fd::RobustZScore{}, with).shift == 2.0F);
  CHECK(map_of(fd::RobustZScore{}, with).scale == map_of(fd::RobustZScore{}, {1.0F, 3.0F}).scale);
}

TEST_CASE("scores at the ends of float's range") {
  // log 1024 above the largest float rounds to it.
  CHECK(map_of(fd::LogSoftmax{}, std::vector<float>(1024, Limits::max())).shift == Limits::max());
  CHECK(map_of(fd::LogSoftmax{}, {Limits::lowest()}).shift == Limits::lowest());
  // A spread of 2.6e38, the reciprocal of which is subnormal, still counts as a spread.
  const fd::ScoreMap huge = map_of(fd::ZScore{}, {3e38F, -3e38F, 1e38F, 0.0F});
  CHECK(huge(3e38F) == doctest::Approx(1.2701706).epsilon(1e-6));
  CHECK(huge(-3e38F) == doctest::Approx(-1.5011107).epsilon(1e-6));
  for (const float value : {0.0F, 0.1F, -7.3F, 3e38F, Limits::denorm_min(), -1e-40F}) {
    for (const std::size_t experts : {std::size_t{1}, std::size_t{3}, std::size_t{64}}) {
      CHECK(map_of(fd::ZScore{}, std::vector<float>(experts, value))(value) == 0.0F);
    }
  }
  const fd::ScoreMap denormal = map_of(fd::ZScore{}, {0.0F, Limits::denorm_min()});
  CHECK(denormal.scale == Limits::max());
  CHECK(denormal(Limits::denorm_min()) > denormal(0.0F));
}

TEST_CASE("a shift common to all logits leaves log_softmax and zscore unchanged, logit not") {
  test::Random random(22);
  for (int repeat = 0; repeat < 200; ++repeat) {
    // Multiples of 2^-10 and shifts that stay within a binade: no rounding differs between the two
    // rows, so their scores are the same bits.
    std::vector<float> row;
    for (int j = 0; j < 64; ++j) row.push_back(static_cast<float>(random.below(4096)) / 1024.0F);
    row[index(random.below(64))] = 4.5F;
    std::vector<float> shifted = row;
    for (float& x : shifted) x += 0.25F;

    const fd::ScoreMap before = fd::LogSoftmax{}(row);
    const fd::ScoreMap after = fd::LogSoftmax{}(shifted);
    REQUIRE(before.shift >= 4.0F);
    REQUIRE(after.shift < 8.0F);
    const fd::ScoreMap z_before = fd::ZScore{}(row);
    const fd::ScoreMap z_after = fd::ZScore{}(shifted);
    CHECK(z_before.scale == z_after.scale);
    for (std::size_t j = 0; j < row.size(); ++j) {
      CHECK(after(shifted[j]) == before(row[j]));
      CHECK(z_after(shifted[j]) - z_before(row[j]) == 0.0F);
      CHECK(fd::Logit{}(shifted)(shifted[j]) != fd::Logit{}(row)(row[j]));
    }
  }
}

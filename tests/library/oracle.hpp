#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

/// The written definition of every piece of a routing, in plain scalar code, one token at a time.
/// It shares no line with fdroute and includes none of it: the tests compare the two.
namespace oracle {

inline constexpr float infinity = std::numeric_limits<float>::infinity();

using Row = std::vector<float>;

// ---- Scores ------------------------------------------------------------------------------------

enum class Score { logit, log_softmax, zscore, robust_zscore };

/// score = (logit - shift) * scale in float; shift and scale are rounded to float once.
struct Map {
  float shift;
  float scale;
};

inline std::vector<long double> finite_values(const Row& logits) {
  std::vector<long double> values;
  for (float x : logits) {
    if (std::isfinite(x)) values.push_back(x);
  }
  return values;
}

/// score_j = logit_j - log sum_i exp(logit_i), over the finite logits. The sum is taken in more
/// precision than the library's, so that only the definition is shared, not the rounding errors.
inline Map log_softmax_map(const Row& logits) {
  const std::vector<long double> values = finite_values(logits);
  const long double largest = *std::max_element(values.begin(), values.end());
  long double sum = 0;
  for (long double x : values) sum += std::exp(x - largest);
  return {static_cast<float>(largest + std::log(sum)), 1.0F};
}

/// score_j = (logit_j - mean) / sd over the finite logits, sd the root of the mean squared
/// deviation. Float holds 1/sd as far as its range goes.
inline Map zscore_map(const Row& logits) {
  const std::vector<long double> values = finite_values(logits);
  const auto n = static_cast<long double>(values.size());
  long double sum = 0;
  for (long double x : values) sum += x;
  const long double mean = sum / n;
  long double squares = 0;
  for (long double x : values) squares += (x - mean) * (x - mean);
  const long double sd = std::sqrt(squares / n);
  const long double limit = std::numeric_limits<float>::max();
  return {static_cast<float>(mean), static_cast<float>(std::min(1 / sd, limit))};
}

inline long double median(std::vector<long double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

/// score_j = (logit_j - median) / (1.4826 MAD) over the finite logits.
inline Map robust_zscore_map(const Row& logits) {
  std::vector<long double> values = finite_values(logits);
  const long double centre = median(values);
  for (long double& x : values) x = std::abs(x - centre);
  const long double limit = std::numeric_limits<float>::max();
  const long double scale = 1 / (1.482602218505601860547L * median(values));
  return {static_cast<float>(centre), static_cast<float>(std::min(scale, limit))};
}

inline Map score_map(Score score, const Row& logits) {
  if (score == Score::log_softmax) return log_softmax_map(logits);
  if (score == Score::zscore) return zscore_map(logits);
  if (score == Score::robust_zscore) return robust_zscore_map(logits);
  return {0.0F, 1.0F};
}

/// The token's scores; NaN stays NaN. At least one logit must be finite.
inline std::vector<float> scores(Score score, const Row& logits) {
  const Map map = score_map(score, logits);
  std::vector<float> result;
  for (float x : logits) result.push_back((x - map.shift) * map.scale);
  return result;
}

// ---- Null distributions ------------------------------------------------------------------------

using Null = std::function<double(double)>;

/// P(S >= score) of a normal distribution.
inline double normal_survival(double score, double mean, double sd) {
  return 0.5 * std::erfc((score - mean) / (sd * std::sqrt(2.0)));
}

/// Straight line through the grid's points; `below` and `above` say what holds outside of it.
inline double on_grid(const std::vector<double>& x, const std::vector<double>& y, double at) {
  std::size_t i = 0;
  while (x[i + 1] < at) ++i;
  return y[i] + (at - x[i]) / (x[i + 1] - x[i]) * (y[i + 1] - y[i]);
}

/// log p linear between grid points, constant below the grid, along the last segment above it.
inline double log_survival_table(const std::vector<double>& score,
                                 const std::vector<double>& log_sf, double at) {
  const std::size_t n = score.size();
  if (at <= score[0]) return std::exp(log_sf[0]);
  if (at == infinity) return 0.0;
  if (at <= score[n - 1]) return std::exp(on_grid(score, log_sf, at));
  const double slope = (log_sf[n - 1] - log_sf[n - 2]) / (score[n - 1] - score[n - 2]);
  return std::exp(log_sf[n - 1] + slope * (at - score[n - 1]));
}

/// p = 1 - cdf, cdf linear between grid points and constant outside.
inline double cdf_table(const std::vector<double>& score, const std::vector<double>& cdf,
                        double at) {
  if (at <= score.front()) return 1.0 - cdf.front();
  if (at >= score.back()) return 1.0 - cdf.back();
  return 1.0 - on_grid(score, cdf, at);
}

/// A token's p-values in ascending order. NaN and -inf have p-value 1.
inline std::vector<double> sorted_p_values(const std::vector<float>& scores, const Null& null) {
  std::vector<double> p;
  for (float s : scores) {
    const bool ordinary = !std::isnan(s) && s != -infinity;
    p.push_back(ordinary ? null(static_cast<double>(s)) : 1.0);
  }
  std::sort(p.begin(), p.end());
  return p;
}

// ---- Rules: p(1) <= ... <= p(m) to the number of rejections
// --------------------------------------

/// max { k : p(k) <= alpha k / m }, 0 if there is none.
inline int benjamini_hochberg(const std::vector<double>& sorted_p, double alpha) {
  const int m = static_cast<int>(sorted_p.size());
  int count = 0;
  for (int k = 1; k <= m; ++k) {
    if (sorted_p[static_cast<std::size_t>(k - 1)] <= (alpha * k) / m) count = k;
  }
  return count;
}

/// Step-down: reject p(1), p(2), ... for as long as p(k) <= alpha / (m - k + 1).
inline int holm(const std::vector<double>& sorted_p, double alpha) {
  const int m = static_cast<int>(sorted_p.size());
  int count = 0;
  while (count < m && sorted_p[static_cast<std::size_t>(count)] <= alpha / (m - count)) ++count;
  return count;
}

/// min { k : P(1) + ... + P(k) >= p } for probabilities in descending order; all if none.
inline int top_p(const std::vector<double>& probabilities, double p) {
  double sum = 0.0;
  int count = 0;
  for (double probability : probabilities) {
    sum += probability;
    ++count;
    if (sum >= p) return count;
  }
  return count;
}

/// #{ j : P_j >= t P(1) }.
inline int relative_threshold(const std::vector<double>& probabilities, double t) {
  int count = 0;
  for (double probability : probabilities) {
    if (probability >= t * probabilities.front()) ++count;
  }
  return count;
}

/// #{ j : P_j >= t }.
inline int absolute_threshold(const std::vector<double>& probabilities, double t) {
  int count = 0;
  for (double probability : probabilities) {
    if (probability >= t) ++count;
  }
  return count;
}

// ---- Selection and weights
// -----------------------------------------------------------------------

/// All experts, best first: larger logit, then lower index; NaN after every number.
inline std::vector<int> order(const Row& logits) {
  std::vector<int> experts(logits.size());
  std::iota(experts.begin(), experts.end(), 0);
  std::stable_sort(experts.begin(), experts.end(), [&](int a, int b) {
    const float x = logits[static_cast<std::size_t>(a)];
    const float y = logits[static_cast<std::size_t>(b)];
    if (std::isnan(x)) return false;
    if (std::isnan(y)) return true;
    return x > y;
  });
  return experts;
}

struct Softmax {
  double temperature = 1.0;
  bool renormalize = false;
};

/// w_j = exp(logit_j / T) / sum over all experts. NaN weighs 0; logits of +inf share the weight 1.
inline std::vector<double> softmax(const Row& logits, double temperature) {
  double largest = -std::numeric_limits<double>::infinity();
  for (float x : logits) {
    if (x > largest) largest = x;
  }
  std::vector<double> weights;
  for (float x : logits) {
    double weight = 0.0;
    if (static_cast<double>(x) == largest) {
      weight = 1.0;
    } else if (std::isfinite(x) && std::isfinite(largest)) {
      weight = std::exp((x - largest) / temperature);
    }
    weights.push_back(weight);
  }
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& weight : weights) weight /= sum;
  return weights;
}

/// The number of experts a token gets: the rule's count, clamped.
struct Bounds {
  int min_k = 1;
  int max_k = std::numeric_limits<int>::max();
};

/// One token's routing.
struct Token {
  std::vector<int> experts;     // best first
  std::vector<double> weights;  // of these experts
  bool has_nan = false;
  bool no_finite_logit = false;
};

inline Token route(const Row& logits, int rejections, Bounds bounds, Softmax weights = {}) {
  const int m = static_cast<int>(logits.size());
  Token token;
  token.no_finite_logit = true;
  for (float x : logits) {
    if (std::isnan(x)) token.has_nan = true;
    if (std::isfinite(x)) token.no_finite_logit = false;
  }
  if (token.no_finite_logit) {
    for (int j = 0; j < bounds.min_k; ++j) {
      token.experts.push_back(j);
      token.weights.push_back(0.0);
    }
    return token;
  }
  const int count = std::min(m, std::min(bounds.max_k, std::max(bounds.min_k, rejections)));
  const std::vector<int> best_first = order(logits);
  const std::vector<double> all = softmax(logits, weights.temperature);
  double kept = 0.0;
  for (int i = 0; i < count; ++i) {
    const int expert = best_first[static_cast<std::size_t>(i)];
    token.experts.push_back(expert);
    token.weights.push_back(all[static_cast<std::size_t>(expert)]);
    kept += token.weights.back();
  }
  if (weights.renormalize) {
    for (double& weight : token.weights) weight /= kept;
  }
  return token;
}

/// How many floats apart two numbers are.
inline std::int64_t ulps_between(float a, float b) {
  const auto place = [](float x) {
    const auto bits = std::bit_cast<std::int32_t>(x);
    return bits < 0 ? -static_cast<std::int64_t>(bits & 0x7FFF'FFFF) : std::int64_t{bits};
  };
  return std::abs(place(a) - place(b));
}

}  // namespace oracle

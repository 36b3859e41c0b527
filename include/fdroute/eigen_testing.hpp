#pragma once

#include <Eigen/Core>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>
#include <unsupported/Eigen/CXX11/Tensor>
#include <vector>

#include "fdroute/concepts.hpp"
#include "fdroute/detail/checks/requirements.hpp"
#include "fdroute/detail/eigen/read.hpp"
#include "fdroute/detail/row/score_maps.hpp"
#include "fdroute/errors.hpp"
#include "fdroute/multiple_testing.hpp"

/// Scores, p-values and multiple-testing rules on Eigen vectors: a token's logits, scores or
/// p-values, or any other hypotheses'.
///
/// A vector is a matrix or array of one row or one column, known as such or not, a tensor of rank
/// 1, or an expression of these. Each function evaluates what it is given, and allocates its result
/// and, as the rules do, a sorted copy. All throw std::invalid_argument if a matrix has several
/// rows and columns, and where fdroute/multiple_testing.hpp does; std::bad_alloc.
namespace fdroute::inline v0 {

namespace detail {

/// The elements of a vector as T.
template <class T, EigenLogits V>
Eigen::VectorX<T> values_of(const V& v) {
  if constexpr (EigenMatrix<V>) {
    if (v.rows() != 1 && v.cols() != 1) {
      detail::refuse("a vector has one row or one column, got (", v.rows(), ", ", v.cols(), ")");
    }
    Eigen::VectorX<T> values(v.size());
    const auto& rows = v.eval();
    for (Eigen::Index i = 0; i < v.size(); ++i)
      values(i) = static_cast<T>(rows.coeff(v.cols() == 1 ? i : 0, v.cols() == 1 ? 0 : i));
    return values;
  } else {
    using Traits = Eigen::internal::traits<V>;
    static_assert(static_cast<int>(Traits::NumDimensions) == 1,
                  "fdroute: a vector is a matrix of one row or column, or a tensor of rank 1");
    const Eigen::Tensor<std::remove_const_t<typename Traits::Scalar>, 1,
                        static_cast<int>(Traits::Layout)>
        tensor = v;
    Eigen::VectorX<T> values(tensor.size());
    for (Eigen::Index i = 0; i < tensor.size(); ++i) values(i) = static_cast<T>(tensor(i));
    return values;
  }
}

template <class T>
std::span<const T> span_of(const Eigen::VectorX<T>& v) {
  return {v.data(), static_cast<std::size_t>(v.size())};
}

}  // namespace detail

/// A token's scores, shape (experts): score = (logit - shift) * scale in float, by the map that
/// `score` makes of the logits. NaN stays NaN. Without any finite logit they are the logits.
template <class S, EigenLogits V>
Eigen::VectorXf scores(const S& score, const V& logits) {
  static_assert(sizeof(detail::ScoreRequirements<S>) > 0);
  Eigen::VectorXf values = detail::values_of<float>(logits);
  bool any_finite = false;
  for (const float x : values) any_finite |= std::isfinite(x);
  if (!any_finite) return values;
  const ScoreMap map = detail::checked(score(detail::span_of(values)));
  for (float& x : values) x = map(x);
  return values;
}

/// The p-values of scores under a null distribution, shape (experts): P(S >= score), by the
/// expert's own null where `null` has one for each. NaN and -inf, a masked expert, have p-value 1,
/// as in a Router.
template <class N, EigenLogits V>
Eigen::VectorXd p_values(const N& null, const V& scores) {
  static_assert(sizeof(detail::NullRequirements<N>) > 0);
  const Eigen::VectorXf values = detail::values_of<float>(scores);
  Eigen::VectorXd p(values.size());
  for (Eigen::Index j = 0; j < p.size(); ++j) {
    const auto score = static_cast<double>(values(j));
    if (!(score > -std::numeric_limits<double>::infinity())) {
      p(j) = 1.0;
    } else if constexpr (ExpertNull<N>) {
      p(j) = null(score, static_cast<int>(j));
    } else {
      p(j) = null(score);
    }
  }
  return p;
}

/// rejections() of a vector of p-values.
template <class R, EigenLogits V>
int rejections(const R& rule, const V& p) {
  return rejections(rule, detail::span_of(detail::values_of<double>(p)));
}

/// threshold() of a vector of p-values.
template <class R, EigenLogits V>
std::optional<double> threshold(const R& rule, const V& p) {
  return threshold(rule, detail::span_of(detail::values_of<double>(p)));
}

/// Which hypotheses `rule` rejects, shape (m): those of p-values up to threshold().
template <class R, EigenLogits V>
Eigen::ArrayX<bool> rejected(const R& rule, const V& p) {
  const Eigen::VectorXd values = detail::values_of<double>(p);
  const std::optional<double> largest = threshold(rule, detail::span_of(values));
  Eigen::ArrayX<bool> result(values.size());
  for (Eigen::Index j = 0; j < result.size(); ++j)
    result(j) = largest.has_value() && !((std::isnan(values(j)) ? 1.0 : values(j)) > *largest);
  return result;
}

/// adjusted() p-values of a vector of p-values, shape (m).
template <class R, EigenLogits V>
Eigen::VectorXd adjusted(const R& rule, const V& p) {
  Eigen::VectorXd values = detail::values_of<double>(p);
  adjusted(rule, detail::span_of(values),
           std::span<double>(values.data(), static_cast<std::size_t>(values.size())));
  return values;
}

/// weighted_p_values() of vectors of p-values and weights, shape (m).
template <EigenLogits V, EigenLogits W>
Eigen::VectorXd weighted_p_values(const V& p, const W& weights) {
  const Eigen::VectorXd values = detail::values_of<double>(p);
  const Eigen::VectorXd of = detail::values_of<double>(weights);
  const std::vector<double> weighted =
      weighted_p_values(detail::span_of(values), detail::span_of(of));
  return Eigen::VectorXd::Map(weighted.data(), static_cast<Eigen::Index>(weighted.size()));
}

}  // namespace fdroute::inline v0

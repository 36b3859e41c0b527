#include "fdroute/eigen.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "fdroute/any_router.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/openmp.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "library/support.hpp"

namespace fd = fdroute;
using fd::RowMajorMatrix;

namespace {

// One type throughout, to compile route() once per kind of matrix.
fd::AnyRouter any_bh_router(int experts) {
  return {fd::Router(experts, fd::BenjaminiHochberg{0.3}, fd::ZScore{}, fd::NormalNull{},
                     fd::SoftmaxWeights{}, fd::ExpertBounds{0, 5}),
          ""};
}

test::Batch some_batch(int experts) {
  test::Random random(121);
  return test::batch_of_every_kind(experts, 2, random);
}

Eigen::Map<const RowMajorMatrix<float>> as_matrix(const test::Batch& batch) {
  return {batch.logits.data(), batch.tokens(), batch.experts};
}

/// A result of any rank is what the raw-pointer interface gives for these rows.
template <class Result>
void check_result(const Result& result, const test::Batch& batch, const fd::AnyRouter& router) {
  const auto padded = test::routed(router, batch.view());
  test::Guarded<float> dense(batch.tokens() * batch.experts);
  fd::TokenStatus status = router.route(batch.view(), fd::DenseView{dense.data(), batch.experts});
  CHECK(result.status == status);
  REQUIRE(result.counts.size() == batch.tokens());
  REQUIRE(result.experts.size() == batch.tokens() * router.capacity());
  REQUIRE(result.weights.size() == batch.tokens() * router.capacity());
  REQUIRE(result.dense.size() == batch.tokens() * batch.experts);
  int differences = 0;
  for (std::ptrdiff_t t = 0; t < batch.tokens(); ++t)
    differences += static_cast<int>(result.counts.data()[t] != padded.counts[t]);
  for (std::ptrdiff_t i = 0; i < batch.tokens() * router.capacity(); ++i) {
    differences += static_cast<int>(result.experts.data()[i] != padded.experts[i]);
    differences += static_cast<int>(result.weights.data()[i] != padded.weights[i]);
  }
  for (std::ptrdiff_t i = 0; i < batch.tokens() * batch.experts; ++i)
    differences += static_cast<int>(result.dense.data()[i] != dense[i]);
  CHECK(differences == 0);
}

}  // namespace

TEST_CASE("a matrix is routed to matrices (tokens, ...)") {
  const auto router = any_bh_router(12);
  const test::Batch batch = some_batch(12);
  const RowMajorMatrix<float> logits = as_matrix(batch);
  const fd::Routing routing = fd::route(router, logits);
  CHECK((routing.dense.rows() == batch.tokens() && routing.dense.cols() == 12));
  CHECK((routing.experts.rows() == batch.tokens() && routing.experts.cols() == 5));
  CHECK((routing.weights.rows() == batch.tokens() && routing.weights.cols() == 5));
  CHECK(routing.counts.rows() == batch.tokens());
  check_result(routing, batch, router);
  // By matrix coordinates, not only in memory.
  for (Eigen::Index t = 0; t < routing.counts.size(); ++t) {
    for (Eigen::Index i = 0; i < routing.counts(t); ++i)
      CHECK(routing.dense(t, routing.experts(t, i)) == routing.weights(t, i));
    CHECK((routing.dense.row(t).array() != 0.0F).count() <= routing.counts(t));
  }
  check_result(fd::route(fd::OpenMP{2}, router, logits), batch, router);

  const fd::Router plain(12, fd::BenjaminiHochberg{0.3}, fd::ZScore{}, fd::NormalNull{},
                         fd::SoftmaxWeights{}, fd::ExpertBounds{0, 5});
  check_result(fd::route(plain, logits), batch, router);
}

TEST_CASE("matrices of any layout are read as (tokens, experts)") {
  const auto router = any_bh_router(12);
  const test::Batch batch = some_batch(12);
  const auto matrix = as_matrix(batch);
  const Eigen::Index tokens = matrix.rows();
  check_result(fd::route(router, matrix), batch, router);  // a map

  const Eigen::MatrixXf column_major = matrix;
  check_result(fd::route(router, column_major), batch, router);

  RowMajorMatrix<float> wide(tokens + 3, 20);
  wide.setConstant(1e30F);
  wide.block(2, 5, tokens, 12) = matrix;
  check_result(fd::route(router, wide.block(2, 5, tokens, 12)), batch, router);

  RowMajorMatrix<float> every_other(tokens, 24);
  every_other.setConstant(1e30F);
  Eigen::Map<RowMajorMatrix<float>, 0, Eigen::Stride<Eigen::Dynamic, 2>> gaps(
      every_other.data(), tokens, 12, Eigen::Stride<Eigen::Dynamic, 2>(24, 2));
  gaps = matrix;
  check_result(fd::route(router, gaps), batch, router);

  const RowMajorMatrix<float> transposed = matrix.transpose();
  check_result(fd::route(router, transposed.transpose()), batch, router);

  check_result(fd::route(router, 2.0F * (0.5F * matrix)), batch, router);  // an expression

  const Eigen::Matrix<float, Eigen::Dynamic, 12, Eigen::RowMajor> fixed = matrix;
  check_result(fd::route(router, fixed), batch, router);

  // The array is a matrix seen in another way.
  const Eigen::ArrayXXf array = matrix.array();
  check_result(fd::route(router, array.matrix()), batch, router);
}

TEST_CASE("a row vector is one token, a column vector is tokens of one expert") {
  const auto router = any_bh_router(12);
  test::Batch one = some_batch(12);
  one.logits.resize(12);
  const Eigen::RowVectorXf row = as_matrix(one);
  check_result(fd::route(router, row), one, router);

  const auto single = any_bh_router(1);
  const test::Batch column{1, {0.5F, test::nan, -3.0F, test::infinity, 0.0F}};
  const Eigen::VectorXf tokens = as_matrix(column);
  check_result(fd::route(single, tokens), column, single);
  Eigen::MatrixXf several(5, 2);
  several << tokens, tokens;
  check_result(fd::route(single, several.col(1)), column, single);
  const RowMajorMatrix<float> rows = several;
  check_result(fd::route(single, rows.col(1)), column, single);
}

TEST_CASE("no token") {
  const auto router = any_bh_router(12);
  const test::Batch none{12};
  check_result(fd::route(router, RowMajorMatrix<float>(0, 12)), none, router);
  check_result(fd::route(router, Eigen::Tensor<float, 3, Eigen::RowMajor>(4, 0, 12)), none, router);
}

TEST_CASE_TEMPLATE("matrices and tensors of double, half and bfloat16", T, double, Eigen::half,
                   Eigen::bfloat16) {
  const auto router = any_bh_router(12);
  // What T keeps of the logits.
  test::Batch batch = some_batch(12);
  RowMajorMatrix<T> logits(batch.tokens(), 12);
  Eigen::Tensor<T, 3, Eigen::RowMajor> tensor(2, batch.tokens() / 2, 12);
  for (std::ptrdiff_t i = 0; i < logits.size(); ++i) {
    const auto x = static_cast<T>(batch.logits[test::index(i)]);
    logits.data()[i] = x;
    tensor.data()[i] = x;
    batch.logits[test::index(i)] = static_cast<float>(x);
  }
  check_result(fd::route(router, logits), batch, router);
  check_result(fd::route(router, tensor), batch, router);
}

TEST_CASE("a tensor (batch, sequence, experts) is routed to tensors of the same rank") {
  const auto router = any_bh_router(12);
  const test::Batch batch = some_batch(12);
  REQUIRE(batch.tokens() == 26);
  using Tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;
  Tensor logits(2, 13, 12);
  for (Eigen::Index b = 0; b < 2; ++b) {
    for (Eigen::Index s = 0; s < 13; ++s) {
      for (Eigen::Index e = 0; e < 12; ++e)
        logits(b, s, e) = batch.logits[test::index((b * 13 + s) * 12 + e)];
    }
  }
  const fd::TensorRouting<3, Eigen::RowMajor> routing = fd::route(router, logits);
  static_assert(
      std::is_same_v<decltype(routing.experts), Eigen::Tensor<std::int32_t, 3, Eigen::RowMajor>>);
  CHECK(routing.dense.dimensions() == Eigen::DSizes<Eigen::Index, 3>(2, 13, 12));
  CHECK(routing.experts.dimensions() == Eigen::DSizes<Eigen::Index, 3>(2, 13, 5));
  CHECK(routing.weights.dimensions() == Eigen::DSizes<Eigen::Index, 3>(2, 13, 5));
  CHECK(routing.counts.dimensions() == Eigen::DSizes<Eigen::Index, 2>(2, 13));
  check_result(routing, batch, router);

  // By tensor coordinates: the sequence runs faster than the batch.
  const auto padded = test::routed(router, batch.view());
  for (Eigen::Index b = 0; b < 2; ++b) {
    for (Eigen::Index s = 0; s < 13; ++s) {
      CHECK(routing.counts(b, s) == padded.counts[b * 13 + s]);
      for (Eigen::Index i = 0; i < routing.counts(b, s); ++i) {
        CHECK(routing.experts(b, s, i) == padded.experts[(b * 13 + s) * 5 + i]);
        CHECK(routing.dense(b, s, routing.experts(b, s, i)) == routing.weights(b, s, i));
      }
    }
  }

  const Eigen::TensorMap<const Tensor> map(logits.data(), 2, 13, 12);
  check_result(fd::route(router, map), batch, router);
  check_result(fd::route(fd::OpenMP{3}, router, logits), batch, router);
  // The results are of the default type of indices.
  Eigen::Tensor<float, 3, Eigen::RowMajor, int> other_index(2, 13, 12);
  std::copy_n(logits.data(), logits.size(), other_index.data());
  check_result(fd::route(router, other_index), batch, router);
}

TEST_CASE("logits over another number of experts are refused") {
  const auto router = any_bh_router(12);
  CHECK(test::rejection_of([&] { fd::route(router, RowMajorMatrix<float>(4, 11)); }) ==
        "route: the logits have 11 experts, the router 12");
  CHECK(test::rejection_of([&] { fd::route(router, RowMajorMatrix<float>(12, 4)); }) ==
        "route: the logits have 4 experts, the router 12");
  CHECK(test::rejection_of([&] {
          fd::route(router, Eigen::Tensor<float, 3, Eigen::RowMajor>(12, 2, 13));
        }) == "route: the logits have 13 experts, the router 12");
}

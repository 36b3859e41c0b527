#define EIGEN_USE_THREADS

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "fdroute/any_router.hpp"
#include "fdroute/eigen.hpp"
#include "fdroute/eigen_threads.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/openmp.hpp"
#include "fdroute/router.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "library/support.hpp"

// Every form of every kind of Eigen object against the raw views, bit for bit.

namespace fd = fdroute;
using test::index;

namespace {

fd::AnyRouter bh_router(int experts) {
  return {fd::Router(experts, fd::BenjaminiHochberg{0.3}, fd::ZScore{}, fd::NormalNull{},
                     fd::SoftmaxWeights{}, fd::ExpertBounds{0, 5}),
          ""};
}

template <class T>
bool same_bits(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

/// The extents (..., experts) of 24 tokens over 12 experts in this rank.
template <int Rank>
constexpr std::array<Eigen::Index, Rank> extents() {
  if constexpr (Rank == 1) return {12};
  if constexpr (Rank == 2) return {24, 12};
  if constexpr (Rank == 3) return {4, 6, 12};
  if constexpr (Rank == 4) return {2, 3, 4, 12};
}

/// The coordinates of the t-th token in row-major counting, and `last` behind them.
template <int Rank>
std::array<Eigen::Index, Rank> coordinates(Eigen::Index t, Eigen::Index last) {
  std::array<Eigen::Index, Rank> at{};
  at[Rank - 1] = last;
  for (std::size_t i = Rank - 1; i-- > 0;) {
    at[i] = t % extents<Rank>()[i];
    t /= extents<Rank>()[i];
  }
  return at;
}

template <int Rank>
std::array<Eigen::Index, Rank - 1> token_coordinates(Eigen::Index t) {
  std::array<Eigen::Index, Rank - 1> at{};
  for (std::size_t i = 0; i + 1 < Rank; ++i) at[i] = coordinates<Rank>(t, 0)[i];
  return at;
}

/// Rows of logits of every kind, 24 tokens or one.
test::Batch batch_of(int tokens) {
  test::Random random(141);
  test::Batch batch{12};
  for (int t = 0; t < tokens; ++t)
    batch.add(test::random_row(
        test::every_kind[index(t % static_cast<int>(test::every_kind.size()))], 12, random));
  return batch;
}

template <class T, int Rank, int Layout>
Eigen::Tensor<T, Rank, Layout> tensor_of(test::Batch& batch) {
  std::array<Eigen::Index, Rank> shape = extents<Rank>();
  Eigen::Tensor<T, Rank, Layout> tensor(shape);
  for (Eigen::Index t = 0; t < batch.tokens(); ++t) {
    for (Eigen::Index j = 0; j < 12; ++j) {
      float& logit = batch.logits[index(t * 12 + j)];
      const auto x = static_cast<T>(logit);
      tensor(coordinates<Rank>(t, j)) = x;
      logit = static_cast<float>(x);  // what T keeps
    }
  }
  return tensor;
}

/// Differences of results, by coordinates, from the raw padded and dense routing of the rows.
template <int Rank, class Result>
int differences(const Result& result, const test::Batch& batch, const fd::AnyRouter& router) {
  const auto padded = test::routed(router, batch.view());
  test::Guarded<float> dense(batch.tokens() * 12);
  const fd::TokenStatus status = router.route(batch.view(), fd::DenseView{dense.data(), 12});
  int wrong = static_cast<int>(result.status != status);
  for (Eigen::Index t = 0; t < batch.tokens(); ++t) {
    std::int32_t count = 0;
    if constexpr (Rank == 1) {
      count = result.counts();
    } else {
      count = result.counts(token_coordinates<Rank>(t));
    }
    wrong += static_cast<int>(count != padded.counts[t]);
    for (Eigen::Index i = 0; i < 5; ++i) {
      const auto at = coordinates<Rank>(t, i);
      wrong += static_cast<int>(result.experts(at) != padded.experts[t * 5 + i]);
      wrong += static_cast<int>(!same_bits(result.weights(at), padded.weights[t * 5 + i]));
    }
    for (Eigen::Index j = 0; j < 12; ++j)
      wrong +=
          static_cast<int>(!same_bits(result.dense(coordinates<Rank>(t, j)), dense[t * 12 + j]));
  }
  return wrong;
}

template <class T, int Rank, int Layout>
void check_tensor() {
  const auto router = bh_router(12);
  test::Batch batch = batch_of(Rank == 1 ? 1 : 24);
  const Eigen::Tensor<T, Rank, Layout> logits = tensor_of<T, Rank, Layout>(batch);
  const auto routing = fd::route(router, logits);
  static_assert(std::is_same_v<decltype(routing), const fd::TensorRouting<Rank, Layout>>);
  CHECK(differences<Rank>(routing, batch, router) == 0);
  // A map, a reference, and a reference to an expression.
  using Tensor = Eigen::Tensor<T, Rank, Layout>;
  const Eigen::TensorMap<const Tensor> map(logits.data(), logits.dimensions());
  CHECK(differences<Rank>(fd::route(router, map), batch, router) == 0);
  const Eigen::TensorRef<const Tensor> reference(logits);
  CHECK(differences<Rank>(fd::route(router, reference), batch, router) == 0);
  // A sum of two, of which one changes no bit; and a chip, whose surroundings are not read.
  const auto nothing = logits.constant(static_cast<T>(-0.0F));
  CHECK(differences<Rank>(fd::route(router, logits + nothing), batch, router) == 0);
  std::array<Eigen::Index, Rank + 1> shape{3};
  for (std::size_t i = 0; i < Rank; ++i) shape[i + 1] = logits.dimensions()[i];
  Eigen::Tensor<T, Rank + 1, Layout> wide(shape);
  wide.setConstant(static_cast<T>(1e4F));
  wide.template chip<0>(1) = logits;
  CHECK(differences<Rank>(fd::route(router, wide.template chip<0>(1)), batch, router) == 0);
}

}  // namespace

TEST_CASE("tensors of rank 1 to 4, of both layouts") {
  check_tensor<float, 1, Eigen::RowMajor>();
  check_tensor<float, 2, Eigen::RowMajor>();
  check_tensor<float, 3, Eigen::RowMajor>();
  check_tensor<float, 4, Eigen::RowMajor>();
  check_tensor<float, 1, Eigen::ColMajor>();
  check_tensor<float, 2, Eigen::ColMajor>();
  check_tensor<float, 3, Eigen::ColMajor>();
  check_tensor<float, 4, Eigen::ColMajor>();
}

TEST_CASE_TEMPLATE("tensors of double, half and bfloat16", T, double, Eigen::half,
                   Eigen::bfloat16) {
  check_tensor<T, 3, Eigen::RowMajor>();
  check_tensor<T, 2, Eigen::ColMajor>();
}

TEST_CASE_TEMPLATE("sums, chips and slices of tensors", Layout,
                   std::integral_constant<int, Eigen::RowMajor>,
                   std::integral_constant<int, Eigen::ColMajor>) {
  constexpr int layout = Layout::value;
  const auto router = bh_router(12);
  test::Batch batch = batch_of(24);
  const auto tensor = tensor_of<float, 3, layout>(batch);
  using Tensor = Eigen::Tensor<float, 3, layout>;

  Tensor one(4, 6, 12);
  Tensor other(4, 6, 12);
  test::Random random(142);
  test::Batch sum{12, std::vector<float>(batch.logits.size())};
  for (Eigen::Index t = 0; t < 24; ++t) {
    for (Eigen::Index j = 0; j < 12; ++j) {
      const auto at = coordinates<3>(t, j);
      one(at) = random.normal();
      other(at) = random.normal();
      sum.logits[index(t * 12 + j)] = one(at) + other(at);
    }
  }
  CHECK(differences<3>(fd::route(router, one + other), sum, router) == 0);
  CHECK(differences<3>(fd::route(router, (one + other).eval()), sum, router) == 0);
  const Eigen::TensorRef<const Tensor> reference(one + other);
  CHECK(differences<3>(fd::route(router, reference), sum, router) == 0);

  // A chip of a tensor of rank 4, inner and outer; what surrounds it is not read.
  for (const Eigen::Index dimension : {0, 1, 2}) {
    std::array<Eigen::Index, 4> shape{};
    for (std::size_t i = 0, k = 0; i < 4; ++i)
      shape[i] = static_cast<Eigen::Index>(i) == dimension ? 3 : tensor.dimensions()[k++];
    Eigen::Tensor<float, 4, layout> wide(shape);
    wide.setConstant(1e30F);
    wide.chip(1, dimension) = tensor;
    CHECK(differences<3>(fd::route(router, wide.chip(1, dimension)), batch, router) == 0);
  }
  Eigen::Tensor<float, 4, layout> wide(2, 4, 6, 12);
  wide.setConstant(1e30F);
  wide.template chip<0>(1) = tensor;
  CHECK(differences<3>(fd::route(router, wide.template chip<0>(1)), batch, router) == 0);

  // A slice, in the middle and at the end.
  Tensor around(6, 8, 14);
  around.setConstant(1e30F);
  const Eigen::array<Eigen::Index, 3> from{1, 2, 1};
  const Eigen::array<Eigen::Index, 3> sizes{4, 6, 12};
  around.slice(from, sizes) = tensor;
  CHECK(differences<3>(fd::route(router, around.slice(from, sizes)), batch, router) == 0);
  Tensor longer(6, 6, 12);
  longer.setConstant(1e30F);
  const Eigen::array<Eigen::Index, 3> rest{2, 0, 0};
  longer.slice(rest, sizes) = tensor;
  CHECK(differences<3>(fd::route(router, longer.slice(rest, sizes)), batch, router) == 0);

  const Eigen::TensorFixedSize<float, Eigen::Sizes<4, 6, 12>, layout> fixed = tensor;
  CHECK(differences<3>(fd::route(router, fixed), batch, router) == 0);
}

namespace {

/// What a padded result in matrices holds that the raw view's does not.
template <class Experts, class Weights, class Counts>
int padded_differences(const Experts& experts, const Weights& weights, const Counts& counts,
                       const test::Batch& batch, const fd::AnyRouter& router,
                       fd::Padding padding = fd::Padding::minus_one) {
  test::Padded expected(batch.tokens(), static_cast<int>(experts.cols()), padding);
  router.route(batch.view(), expected.view());
  int wrong = 0;
  for (Eigen::Index t = 0; t < batch.tokens(); ++t) {
    wrong += static_cast<int>(counts(t) != expected.counts[t]);
    for (Eigen::Index i = 0; i < experts.cols(); ++i) {
      const std::ptrdiff_t place = t * experts.cols() + i;
      wrong += static_cast<int>(experts(t, i) != expected.experts[place]);
      wrong += static_cast<int>(!same_bits(weights(t, i), expected.weights[place]));
    }
  }
  return wrong;
}

}  // namespace

TEST_CASE("padded results in matrices of any layout, blocks, maps and typed ids") {
  const auto router = bh_router(12);
  const test::Batch batch = batch_of(40);
  const Eigen::Map<const fd::RowMajorMatrix<float>> rows(batch.logits.data(), 40, 12);
  const Eigen::MatrixXf columns = rows;
  const fd::TokenStatus status = test::routed(router, batch.view()).tokens == 40
                                     ? router.route(batch.view(), test::Padded(40, 5).view())
                                     : fd::TokenStatus::ok;

  Eigen::MatrixXi experts;
  Eigen::MatrixXf weights;
  Eigen::VectorXi counts;
  CHECK(fd::route(router, columns, fd::EigenPadded{experts, weights, counts}) == status);
  CHECK((experts.rows() == 40 && experts.cols() == 5 && weights.cols() == 5));
  CHECK(padded_differences(experts, weights, counts, batch, router) == 0);

  // What is large enough is left as it is, and written to the end of its rows.
  experts.setConstant(40, 9, 77);
  weights.setConstant(40, 9, 77.0F);
  const int* memory = experts.data();
  fd::route(fd::OpenMP{2}, router, rows,
            fd::EigenPadded{experts, weights, counts, fd::Padding::repeat_valid});
  CHECK((experts.data() == memory && experts.cols() == 9));
  CHECK(padded_differences(experts, weights, counts, batch, router, fd::Padding::repeat_valid) ==
        0);

  // Blocks: nothing around them is written.
  fd::RowMajorMatrix<std::int64_t> ids;
  ids.setConstant(44, 11, 77);
  fd::RowMajorMatrix<float> shares;
  shares.setConstant(44, 11, 77.0F);
  Eigen::RowVectorXi row_of_counts(40);
  fd::route(router, rows,
            fd::EigenPadded{ids.block(2, 3, 40, 6), shares.block(2, 3, 40, 6), row_of_counts});
  CHECK(padded_differences(ids.block(2, 3, 40, 6), shares.block(2, 3, 40, 6), row_of_counts, batch,
                           router) == 0);
  CHECK((ids.array() == 77).count() == 44 * 11 - 40 * 6);
  CHECK((shares.array() == 77.0F).count() == 44 * 11 - 40 * 6);

  // Ids of one byte, by a Router.
  const fd::Router plain(12, fd::BenjaminiHochberg{0.3}, fd::ZScore{}, fd::NormalNull{},
                         fd::SoftmaxWeights{}, fd::ExpertBounds{0, 5});
  fd::RowMajorMatrix<std::int8_t> bytes;
  fd::route(plain, columns, fd::EigenPadded{bytes, weights, counts});
  CHECK((weights.cols() == 5 && padded_differences(bytes, weights, counts, batch, router) == 0));

  std::vector<std::int32_t> raw_ids(200);
  std::vector<float> raw_weights(200);
  std::vector<std::int32_t> raw_counts(40);
  fd::route(router, rows,
            fd::EigenPadded{Eigen::Map<fd::RowMajorMatrix<std::int32_t>>(raw_ids.data(), 40, 5),
                            Eigen::Map<fd::RowMajorMatrix<float>>(raw_weights.data(), 40, 5),
                            Eigen::Map<Eigen::VectorXi>(raw_counts.data(), 40)});
  const auto expected = test::routed(router, batch.view());
  int wrong = 0;
  for (std::ptrdiff_t i = 0; i < 200; ++i)
    wrong += static_cast<int>(raw_ids[index(i)] != expected.experts[i]);
  CHECK(wrong == 0);
}

TEST_CASE("dense, bitmask and CSR results") {
  const auto router = bh_router(12);
  const test::Batch batch = batch_of(40);
  const Eigen::Map<const fd::RowMajorMatrix<float>> rows(batch.logits.data(), 40, 12);
  test::Guarded<float> dense(40 * 12);
  test::Guarded<std::int32_t> dense_counts(40);
  router.route(batch.view(), fd::DenseView{dense.data(), 12, dense_counts.data()});
  test::Guarded<std::uint64_t> words(40);
  router.route(batch.view(), fd::BitmaskView{words.data(), 1});
  test::Csr csr(40, 200);
  router.route(batch.view(), csr.view());

  Eigen::MatrixXf columns;
  Eigen::VectorXi counts;
  fd::route(router, rows, fd::EigenDense{columns, counts});
  fd::RowMajorMatrix<float> by_rows(40, 12);
  fd::route(router, rows, fd::EigenDense{by_rows});
  Eigen::Array<std::uint64_t, Eigen::Dynamic, 1> bits;
  fd::route(router, rows, fd::EigenBitmask{bits});
  Eigen::VectorX<std::int64_t> offsets;
  Eigen::VectorX<std::int32_t> experts(300);
  Eigen::VectorXf weights;
  fd::route(fd::OpenMP{2}, router, rows, fd::EigenCsr{offsets, experts, weights});
  CHECK((experts.size() == 300 && weights.size() == 200));
  int wrong = 0;
  for (Eigen::Index t = 0; t < 40; ++t) {
    wrong += static_cast<int>(counts(t) != dense_counts[t] || bits(t) != words[t]);
    for (Eigen::Index j = 0; j < 12; ++j) {
      wrong += static_cast<int>(!same_bits(columns(t, j), dense[t * 12 + j]));
      wrong += static_cast<int>(!same_bits(by_rows(t, j), dense[t * 12 + j]));
    }
    wrong += static_cast<int>(offsets(t + 1) != csr.offsets[t + 1]);
  }
  for (Eigen::Index i = 0; i < offsets(40); ++i)
    wrong +=
        static_cast<int>(experts(i) != csr.experts[i] || !same_bits(weights(i), csr.weights[i]));
  CHECK(wrong == 0);

  // Of 130 experts, several words a token, in columns.
  const auto wide = bh_router(130);
  test::Random random(143);
  const test::Batch many = test::batch_of_every_kind(130, 2, random);
  const Eigen::Map<const fd::RowMajorMatrix<float>> logits(many.logits.data(), many.tokens(), 130);
  test::Guarded<std::uint64_t> sets(many.tokens() * 3);
  wide.route(many.view(), fd::BitmaskView{sets.data(), 3});
  Eigen::Matrix<std::uint64_t, Eigen::Dynamic, Eigen::Dynamic> in_columns;
  fd::route(wide, logits, fd::EigenBitmask{in_columns, counts});
  for (Eigen::Index t = 0; t < many.tokens(); ++t)
    for (Eigen::Index w = 0; w < 3; ++w)
      wrong += static_cast<int>(in_columns(t, w) != sets[t * 3 + w]);
  CHECK(wrong == 0);
}

TEST_CASE("results of column-major tensors, one form at a time") {
  const auto router = bh_router(12);
  test::Batch batch = batch_of(24);
  const auto logits = tensor_of<float, 3, Eigen::ColMajor>(batch);
  Eigen::Tensor<std::int64_t, 3> experts;
  Eigen::Tensor<float, 3> weights;
  Eigen::Tensor<std::int32_t, 2> counts;
  fd::route(router, logits, fd::EigenPadded{experts, weights, counts});
  std::vector<float> memory(4 * 6 * 12);
  fd::route(router, logits,
            fd::EigenDense{Eigen::TensorMap<Eigen::Tensor<float, 3>>(memory.data(), 4, 6, 12)});
  const Eigen::TensorMap<Eigen::Tensor<float, 3>> dense(memory.data(), 4, 6, 12);
  const auto padded = test::routed(router, batch.view());
  Eigen::Tensor<std::int64_t, 1> offsets;
  Eigen::Tensor<std::int32_t, 1> ids;
  Eigen::VectorXf shares;
  fd::route(router, logits, fd::EigenCsr{offsets, ids, shares});
  int wrong = 0;
  for (Eigen::Index t = 0; t < 24; ++t) {
    const Eigen::Index b = t / 6;
    const Eigen::Index s = t % 6;
    const Eigen::Index in_memory = b + 4 * s;
    wrong += static_cast<int>(counts(b, s) != padded.counts[t]);
    wrong += static_cast<int>(offsets(in_memory + 1) - offsets(in_memory) != padded.counts[t]);
    float sum = 0.0F;
    for (Eigen::Index i = 0; i < 5; ++i) {
      wrong += static_cast<int>(experts(b, s, i) != padded.experts[t * 5 + i]);
      wrong += static_cast<int>(!same_bits(weights(b, s, i), padded.weights[t * 5 + i]));
      if (i >= counts(b, s)) continue;
      wrong += static_cast<int>(ids(offsets(in_memory) + i) != padded.experts[t * 5 + i]);
      wrong += static_cast<int>(dense(b, s, experts(b, s, i)) != weights(b, s, i));
      sum += weights(b, s, i);
    }
    float whole = 0.0F;
    for (Eigen::Index j = 0; j < 12; ++j) whole += dense(b, s, j);
    wrong += static_cast<int>(std::abs(whole - sum) > 1e-5F);
  }
  CHECK(wrong == 0);
}

TEST_CASE("results that exist are written to in place, and resized if they must") {
  const auto router = bh_router(12);
  const test::Batch batch = batch_of(40);
  const Eigen::Map<const fd::RowMajorMatrix<float>> rows(batch.logits.data(), 40, 12);
  fd::Routing out;
  fd::route(router, rows, out);
  const std::array<const void*, 4> before{out.dense.data(), out.experts.data(), out.weights.data(),
                                          out.counts.data()};
  out.dense.setConstant(5.0F);
  CHECK(fd::route(fd::OpenMP{2}, router, rows, out) == out.status);
  CHECK(before == std::array<const void*, 4>{out.dense.data(), out.experts.data(),
                                             out.weights.data(), out.counts.data()});
  const fd::Routing fresh = fd::route(router, rows);
  CHECK((out.dense == fresh.dense && out.experts == fresh.experts && out.counts == fresh.counts));
  fd::route(router, rows.topRows(3), out);
  CHECK((out.dense.rows() == 3 && out.experts.cols() == 5 && out.counts.size() == 3));
  CHECK(out.experts == fresh.experts.topRows(3));
}

TEST_CASE("an Eigen::ThreadPoolDevice is an execution") {
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  const auto router = bh_router(12);
  test::Random random(144);
  const test::Batch batch = test::batch_of_every_kind(12, 100, random);
  const Eigen::Map<const fd::RowMajorMatrix<float>> rows(batch.logits.data(), batch.tokens(), 12);
  const fd::Routing serial = fd::route(router, rows);
  const fd::Routing threaded = fd::route(device, router, rows);
  CHECK((serial.experts == threaded.experts && serial.counts == threaded.counts &&
         serial.status == threaded.status));
  Eigen::MatrixXi experts;
  Eigen::MatrixXf weights;
  Eigen::VectorXi counts;
  CHECK(fd::route(device, router, rows, fd::EigenPadded{experts, weights, counts}) ==
        serial.status);
  CHECK(experts == serial.experts);
  test::Padded raw(batch.tokens(), 5);
  router.route(fd::EigenThreads(device), batch.view(), raw.view());
  CHECK(raw == test::routed(router, batch.view()));
}

TEST_CASE("shapes that do not fit are refused in words") {
  const auto router = bh_router(12);
  const fd::RowMajorMatrix<float> logits = fd::RowMajorMatrix<float>::Zero(3, 12);
  Eigen::MatrixXi experts;
  Eigen::MatrixXf weights;
  Eigen::VectorXi counts;
  std::vector<float> memory(40);
  Eigen::Map<fd::RowMajorMatrix<float>> four(memory.data(), 3, 4);
  const auto rejection = [&](auto&& out) {
    return test::rejection_of([&] { fd::route(router, logits, out); });
  };
  CHECK(rejection(fd::EigenPadded{experts, four, counts}) ==
        "route: weights has shape (3, 4) and cannot be resized, expected (3, 5)");
  CHECK(rejection(fd::EigenPadded{experts, weights.leftCols(0), counts}) ==
        "route: weights has shape (0, 0) and cannot be resized, expected (3, 5)");
  Eigen::Vector4i fixed;
  CHECK(rejection(fd::EigenPadded{experts, weights, fixed}) ==
        "route: counts has shape (4) and cannot be resized, expected (3)");
  Eigen::Matrix<float, Eigen::Dynamic, 13> thirteen;
  CHECK(rejection(fd::EigenDense{thirteen}) ==
        "route: weights has shape (0, 13) and cannot be resized, expected (3, 12)");
  Eigen::Matrix<float, Eigen::Dynamic, 12> twelve;
  CHECK(rejection(fd::EigenDense{twelve}) == "no error");
  CHECK(twelve.rows() == 3);
  const Eigen::Tensor<float, 3> tensor(2, 3, 12);
  Eigen::TensorMap<Eigen::Tensor<float, 3>> small(memory.data(), 1, 3, 12);
  CHECK(test::rejection_of([&] { fd::route(router, tensor, fd::EigenDense{small}); }) ==
        "route: weights has shape (1, 3, 12) and cannot be resized, expected (2, 3, 12)");
  CHECK(test::rejection_of([&] { fd::route(router, Eigen::Tensor<float, 1>(11)); }) ==
        "route: the logits have 11 experts, the router 12");
}

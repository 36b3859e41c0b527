// route() writes CSR: the padded routing without its padding, bit for bit.

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fdroute/formats.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/null/per_expert.hpp"
#include "fdroute/openmp.hpp"
#include "fdroute/router.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/topk.hpp"
#include "library/every_policy.hpp"
#include "library/support.hpp"
#include "sanitizers.hpp"

namespace fd = fdroute;

namespace {

/// Anything from no to all experts: rows that no kernel takes, and empty selections, among others.
auto bounded_router(int experts, fd::ExpertBounds bounds = {0}, fd::SoftmaxWeights weights = {}) {
  return fd::Router(experts, fd::BenjaminiHochberg{0.6}, fd::ZScore{}, fd::NormalNull{}, weights,
                    bounds);
}

std::vector<std::string> every_rule(int experts) {
  std::vector<std::string> policies{"topk:k=1,min_k=0,max_k=1"};
  for (const std::string& rule : test::names_of_null_free_rules()) {
    if (test::takes(rule, "k")) {
      policies.push_back(rule + ":k=" + std::to_string((experts + 1) / 2));
    } else {
      policies.push_back(rule + ":min_k=0");
      const char* const setting = test::takes(rule, "p")   ? ":p=0.7"
                                  : test::takes(rule, "c") ? ":c=-2,sigma=0.4"
                                                           : ":t=0.3";
      policies.push_back(rule + setting + ",min_k=0,max_k=7");
    }
  }
  for (const std::string& rule : test::names_of_rules_of_p()) {
    if (test::takes(rule, "alpha")) {
      policies.push_back(rule + ":alpha=0.6,null=normal,min_k=0");
      policies.push_back(rule + ":alpha=0.3,null=normal,sd=0.7,max_k=5,temperature=0.5");
    } else {
      policies.push_back(rule + ":null=normal,min_k=0");
      policies.push_back(rule + ":null=normal,score=log_softmax,mean=-4,renormalize=true,max_k=6");
    }
  }
  return policies;
}

}  // namespace

TEST_CASE("CSR is the padded routing without padding, for every rule of a string") {
  test::Random random(181);
  for (const int experts : {1, 2, 7, 63, 64, 65, 130, 256, 257, 1023, 1024}) {
    const test::Batch batch = test::batch_of_every_kind(experts, experts > 130 ? 2 : 6, random);
    const std::vector<std::string> policies = every_rule(experts);
    for (std::size_t i = test::index(experts % test::stride_of_cases); i < policies.size();
         i += test::index(test::stride_of_cases)) {
      const std::string& policy = policies[i];
      CAPTURE(experts);
      CAPTURE(policy);
      const fd::AnyRouter router = fd::parse_router(policy, experts);
      CHECK(test::difference_of_csr(router, batch.view()) == "");
      CHECK(test::difference_of_csr<std::int64_t>(router, batch.view(), fd::OpenMP{2}) == "");
    }
  }
}

TEST_CASE("CSR is the padded routing without padding, for the presets and nulls per expert") {
  test::Random random(182);
  const test::Batch batch = test::batch_of_every_kind(64, 6, random);
  const std::vector<float> bias(64, 0.125F);
  const auto check = [&](const auto& router) {
    CHECK(test::difference_of_csr(router, batch.view()) == "");
    CHECK(test::difference_of_csr(router, batch.view(), fd::OpenMP{2}) == "");
  };
  for (const std::string& preset : test::names_of_presets()) {
    CAPTURE(preset);
    check(fd::parse_router(preset, 64, bias));
  }
  check(fd::Router(64, fd::TopK{5}, fd::SoftmaxWeights{}, fd::ExpertBounds{0},
                   fd::ByLogit{fd::TieOrder::highest_index}));
  std::vector<fd::NormalNull> nulls;
  for (int j = 0; j < 64; ++j) nulls.push_back({0.1 * static_cast<double>(j % 5), 1.0});
  check(fd::Router(64, fd::BenjaminiHochberg{0.6}, fd::ZScore{},
                   fd::PerExpertNull<fd::NormalNull>{nulls}, fd::SoftmaxWeights{},
                   fd::ExpertBounds{0}));
}

TEST_CASE("CSR of any number of experts, in ids of any type, with any weights") {
  test::Random random(183);
  for (int experts = 1; experts <= 132; experts += test::stride_of_cases) {
    CAPTURE(experts);
    const test::Batch batch = test::batch_of_every_kind(experts, 2, random);
    const auto check = [&](const auto& router) {
      CHECK(test::difference_of_csr(router, batch.view()) == "");
      CHECK(test::difference_of_csr<std::int64_t>(router, batch.view(), fd::OpenMP{3}) == "");
      CHECK(test::difference_of_csr<std::uint16_t>(router, batch.view()) == "");
    };
    check(bounded_router(experts));
    check(bounded_router(experts, {0, 1 + experts % 20}, {.renormalize = true}));
    check(bounded_router(experts, {experts / 3}, {.temperature = 0.5}));
    check(fd::Router(experts, fd::TopK{(experts + 1) / 2}));
  }
}

TEST_CASE("CSR of any number of tokens, of any type of logits, on any number of threads") {
  test::Random random(184);
  for (const int experts : {8, 64, 1000}) {
    const auto router = bounded_router(experts, {0, 20});
    const fd::AnyRouter any(router, "");
    const test::Batch batch = test::batch_of_every_kind(experts, 16, random);
    const std::vector<double> doubles(batch.logits.begin(), batch.logits.end());
    // Around the sizes of blocks, which are 4, 16 and 64 tokens.
    for (const std::ptrdiff_t tokens :
         {0, 1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 127, 128, 129, 200}) {
      CAPTURE(tokens);
      const auto floats = batch.view().slice(3, tokens);
      const fd::LogitsView strided(doubles.data() + experts, tokens / 2, experts,
                                   std::ptrdiff_t{2} * experts);
      const auto check = [&](auto execution) {
        CHECK(test::difference_of_csr(router, floats, execution) == "");
        CHECK(test::difference_of_csr(router, strided, execution) == "");
        CHECK(test::difference_of_csr(any, floats, execution) == "");
        CHECK(test::difference_of_csr(any, strided, execution) == "");
      };
      check(fd::serial);
      for (const int threads : {1, 2, 5}) check(fd::OpenMP{threads});
    }
  }
}

TEST_CASE("CSR of rows that all, or none of which, select") {
  test::Random random(185);
  for (const int experts : {5, 64, 130}) {
    for (const test::Rows kind : test::every_kind) {
      test::Batch batch{experts};
      for (int i = 0; i < 70; ++i) batch.add(test::random_row(kind, experts, random));
      for (const int min_k : {0, 2, experts}) {
        const auto router = bounded_router(experts, {min_k});
        CHECK(test::difference_of_csr(router, batch.view()) == "");
        CHECK(test::difference_of_csr(router, batch.view(), fd::OpenMP{2}) == "");
      }
    }
  }
}

TEST_CASE("CSR from route() leads back to the padded routing") {
  test::Random random(186);
  const auto router = bounded_router(64, {0, 9});
  const test::Batch batch = test::batch_of_every_kind(64, 5, random);
  const auto expected = test::routed(router, batch.view());
  test::Csr csr(batch.tokens(), batch.tokens() * 9);
  router.route(batch.view(), csr.view());
  test::Padded<> back(batch.tokens(), 9);
  fd::to_padded(csr.view(), batch.tokens(), back.view());
  CHECK(back == expected);
  // From token 7 on.
  test::Padded<> rest(batch.tokens() - 7, 9);
  fd::to_padded(csr.view().from(7), rest.tokens, rest.view());
  for (std::ptrdiff_t i = 0; i < rest.tokens * 9; ++i)
    CHECK(rest.experts[i] == expected.experts[i + 7 * 9]);
}

// One program, several instruction sets, one routing.

#include <doctest/doctest.h>

#include <string>

#include "isa.hpp"
#include "library/support.hpp"

TEST_CASE("every instruction set of this machine routes alike, bit for bit") {
  test::Random random(31);
  for (const int experts : {8, 64, 130}) {
    const test::Batch batch = test::batch_of_every_kind(experts, 5, random);
    for (const std::string policy : {"topk:k=4", "bh:alpha=0.2,null=normal,min_k=0",
                                     "deepseek-v3:n_group=2,topk_group=1,num_experts_per_tok=3,"
                                     "selection_bias=none"}) {
      const auto expected =
          test::routed(engine::isas().back().make_router(policy, experts), batch.view());
      CHECK(test::routed(engine::make_router(policy, experts), batch.view()) == expected);
      for (const engine::Isa& isa : engine::isas()) {
        if (!isa.supported()) continue;
        INFO(isa.name, ", ", policy);
        CHECK(test::routed(isa.make_router(policy, experts), batch.view()) == expected);
      }
    }
  }
}

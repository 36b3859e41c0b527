#include "routing/routing.hpp"

#include <doctest/doctest.h>

#include <stdexcept>
#include <string>

#include "forward/model.hpp"
#include "reference/random_texts.hpp"

TEST_CASE("per-layer values in a policy string") {
  const olmoe::Model model(tiny + "plain");
  const auto of_layers = routers(model, "bh:alpha=0.1/0.2,max_k=4,null=normal");
  REQUIRE(of_layers.size() == 2);
  CHECK(of_layers[0].policy() == routers(model, "bh:alpha=0.1,max_k=4,null=normal")[0].policy());
  CHECK(of_layers[1].policy() == routers(model, "bh:alpha=0.2,max_k=4,null=normal")[0].policy());
  const std::string all = olmoe::policy_of(of_layers);
  CHECK(all.starts_with("bh:alpha=0.1/0.2,min_k=1,max_k=4,"));
  CHECK(olmoe::policy_of(routers(model, all)) == all);
  CHECK(olmoe::policy_of(routers(model, "topk:k=2/2")) ==
        olmoe::policy_of(routers(model, "topk:k=2")));
  CHECK(routers(model, "topk:k=2,min_k=1/2")[1].bounds().min_k == 2);
  CHECK(routers(model, "topk:k=2/-")[1].capacity() == 8);

  // Layers of different nulls have different settings.
  const auto mixed = routers(model, "bh:alpha=0.1/0.2,null=normal/logistic,sd=2/-,scale=-/3");
  CHECK(mixed[0].policy().find(",sd=2") != std::string::npos);
  CHECK(mixed[1].policy().find(",scale=3") != std::string::npos);
  const std::string recorded = olmoe::policy_of(mixed);
  CHECK(recorded.find(",null=normal/logistic,") != std::string::npos);
  CHECK(recorded.find(",sd=2/-,") != std::string::npos);
  CHECK(recorded.find(",location=-/0,scale=-/3") != std::string::npos);
  CHECK(routers(model, recorded)[0].policy() == mixed[0].policy());
  CHECK(routers(model, recorded)[1].policy() == mixed[1].policy());

  const auto message = [&](const std::string& policy) -> std::string {
    try {
      routers(model, policy);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "no error";
  };
  CHECK(message("topk:k=1/2/3") == "policy 'topk:k=1/2/3': 'k' lists 3 values for 2 layers");
  CHECK(message("topk:k=1/x") == "policy 'topk:k=x', position 8: k takes an integer, got 'x'");
  CHECK(message("topk:k=1/").starts_with("policy 'topk:k=', position 6: key=value expected"));
}

#include <fdroute/fdroute.hpp>
#include <iostream>
#include <stdexcept>

#include "own_policies.hpp"

int main() {
  const float logits[8] = {0.1F, 4.0F, -0.3F, 0.2F, 3.5F, -0.1F, 0.0F, -0.2F};
  std::cout << own_policies(logits) << " of one's own\n";
  for (const char* policy : {"first_few:level=0.8,null=normal,score=logit", "equal_shares:k=3",
                             "bh:null=normal,score=logit", "last_few"}) {
    try {
      const fdroute::AnyRouter own = parse_own(policy);
      std::int32_t experts[8], count = 0;
      float weights[8];
      own.route(fdroute::LogitsView{logits, 1, 8},
                fdroute::RoutingView{experts, weights, &count, 8});
      std::cout << own.policy() << ": " << count << '\n';
    } catch (const std::invalid_argument& error) {
      std::cout << error.what() << '\n';
    }
  }
}

#include <fdroute/fdroute.hpp>
#include <iostream>

int main() {
  const float logits[8] = {0.1F, 4.0F, -0.3F, 0.2F, 3.5F, -0.1F, 0.0F, -0.2F};
  const fdroute::Router router(8, fdroute::BenjaminiHochberg{.alpha = 0.05}, fdroute::Logit{},
                               fdroute::NormalNull{});
  std::int32_t experts[8], count = 0;
  float weights[8];
  router.route(fdroute::LogitsView{logits, 1, 8},
               fdroute::RoutingView{experts, weights, &count, 8});
  for (int i = 0; i < count; ++i)
    std::cout << "expert " << experts[i] << ", weight " << weights[i] << '\n';
}

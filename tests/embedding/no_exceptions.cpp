// An engine without exceptions and RTTI. It routes, and is told of a wrong argument by its own
// handler, or by the line that fdroute prints before it aborts:
//
//   no_exceptions route     prints the experts of two tokens
//   no_exceptions POLICY    makes a router of the string

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "fdroute/fdroute.hpp"

#if defined(__cpp_exceptions) || defined(__cpp_rtti)
#error "this translation unit is compiled with -fno-exceptions -fno-rtti"
#endif

#if defined(FDROUTE_ERROR_HANDLER)
void engine_error(const char* sentence) {
  std::printf("engine: %s\n", sentence);
  std::exit(3);
}
#endif

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const bool route = std::string_view(argv[1]) == "route";
  const fdroute::AnyRouter router =
      fdroute::parse_router(route ? "bh:alpha=0.2,null=normal,score=zscore,max_k=3" : argv[1], 8);
  const float logits[16] = {0.0F, 2.0F, 0.1F, -1.0F, 3.0F, 0.2F, -0.5F, 0.3F,
                            0.5F, 0.5F, 0.5F, 0.5F,  0.5F, 0.5F, 0.5F,  9.0F};
  std::int32_t experts[6];
  float weights[6];
  std::int32_t counts[2];
  router.route(fdroute::LogitsView(logits, 2, 8),
               fdroute::RoutingView{experts, weights, counts, router.capacity()});
  for (int t = 0; t < 2; ++t) {
    for (int i = 0; i < counts[t]; ++i) std::printf("%d ", static_cast<int>(experts[3 * t + i]));
    std::printf("of token %d\n", t);
  }
}

// olmoe generate

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "reference/cli/generate.hpp"
#include "reference/run_olmoe.hpp"

TEST_CASE("generate writes text to stdout and the cost to stderr") {
  const std::vector<std::string> common{"--max-new-tokens", "12"};
  const Outcome native = run_olmoe(generate(nano, common));
  CHECK(native.code == 0);
  CHECK(native.out.starts_with("x"));
  CHECK(native.err.find("8.00 experts per token") != std::string::npos);
  CHECK(native.err.find("12 new tokens") != std::string::npos);
  CHECK(run_olmoe(generate(nano, common)).out == native.out);

  const Outcome few = run_olmoe(generate(nano, {"--max-new-tokens", "12", "--route", "topk:k=3"}));
  CHECK(few.code == 0);
  CHECK(few.err.find("3.00 experts per token") != std::string::npos);
  const Outcome bh = run_olmoe(generate(
      nano, {"--max-new-tokens", "12", "--route", "bh:alpha=0.05,max_k=16", "--threads", "1"}));
  CHECK(bh.code == 0);
  CHECK(bh.err.find("bh:alpha=0.05,min_k=1,max_k=16") != std::string::npos);
}

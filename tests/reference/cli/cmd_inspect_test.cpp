// olmoe inspect

#include <doctest/doctest.h>

#include "reference/run_olmoe.hpp"

TEST_CASE("inspect describes the bundled model") {
  const Outcome outcome = run_olmoe({"inspect", "--model", nano.string()});
  CHECK(outcome.code == 0);
  CHECK(outcome.out.find("64 of intermediate size 64 (silu)") != std::string::npos);
  CHECK(outcome.out.find("top-8, weights not renormalised") != std::string::npos);
  CHECK(outcome.out.find("instruction set      ") != std::string::npos);
  const Outcome baseline = run_olmoe({"inspect", "--model", nano.string(), "--isa", "baseline"});
  CHECK(baseline.out.find("instruction set      baseline, of baseline") != std::string::npos);
  check_error({"inspect", "--model", nano.string(), "--isa", "mmx"}, 2,
              {"unknown instruction set 'mmx'"});
}

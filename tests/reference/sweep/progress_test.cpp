#include "sweep/progress.hpp"

#include <doctest/doctest.h>

TEST_CASE("Durations are for reading") {
  CHECK(olmoe::duration_text(41.6) == "42 s");
  CHECK(olmoe::duration_text(200.0) == "3 min 20 s");
  CHECK(olmoe::duration_text(7500.0) == "2 h 5 min");
}

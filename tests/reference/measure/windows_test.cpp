#include "measure/windows.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <stdexcept>
#include <vector>

#include "forward/model.hpp"
#include "reference/random_texts.hpp"

using olmoe::Window;

TEST_CASE("sliding windows score every token but the first once") {
  using Windows = std::vector<Window>;
  CHECK(olmoe::sliding_windows(9, 8, 4) == Windows{{0, 8, 0}});
  CHECK(olmoe::sliding_windows(17, 8, 8) == Windows{{0, 8, 0}, {8, 8, 0}});
  CHECK(olmoe::sliding_windows(17, 8, 4) == Windows{{0, 8, 0}, {4, 8, 4}, {8, 8, 4}});
  CHECK(olmoe::sliding_windows(12, 8, 8) == Windows{{0, 8, 0}, {3, 8, 5}});

  for (std::int64_t tokens = 2; tokens < 40; ++tokens) {
    for (std::int64_t window = 1; window < tokens; ++window) {
      for (std::int64_t stride = 1; stride <= window; ++stride) {
        std::int64_t next = 0;
        for (const Window& w : olmoe::sliding_windows(tokens, window, stride)) {
          REQUIRE(w.length == window);
          REQUIRE(w.first + w.scored == next);
          REQUIRE(w.scored < w.length);
          next = w.first + w.length;
        }
        REQUIRE(next == tokens - 1);
      }
    }
  }
  CHECK_THROWS_AS(olmoe::sliding_windows(8, 8, 4), std::invalid_argument);
  CHECK_THROWS_AS(olmoe::sliding_windows(8, 4, 5), std::invalid_argument);
  CHECK_THROWS_AS(olmoe::sliding_windows(8, 4, 0), std::invalid_argument);
}

TEST_CASE("the default window is the model's positions, at most 1024") {
  olmoe::Config config = olmoe::Model(tiny + "plain").config();
  CHECK(olmoe::default_window(config) == 64);
  config.max_position_embeddings = 4096;
  CHECK(olmoe::default_window(config) == 1024);
}

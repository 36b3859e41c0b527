#include "measure/recorded_logits.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "reference/error_of.hpp"
#include "reference/random_texts.hpp"

using olmoe::Text;

TEST_CASE("recording keeps the logits of whole texts, in windows, some held out") {
  const olmoe::Model model(tiny + "plain");
  const auto texts = one_text(model);
  const auto native = routers(model, "native");
  const auto all = olmoe::record_logits(model, native, texts, {.window = 64});
  REQUIRE(all.fit.size() == 2);
  CHECK(all.fit[0].tokens() == 600);
  CHECK(all.held_out[0].tokens() == 0);

  // The second window alone: its tokens see nothing of the first.
  olmoe::KvCache cache;
  olmoe::ForwardTrace trace;
  model.forward(std::span(texts[0].ids).subspan(64, 64), cache, native,
                olmoe::Model::LogitsOf::no_token, &trace);
  CHECK(std::equal(trace.routing[1].logits.begin(), trace.routing[1].logits.end(),
                   all.fit[1].values.begin() + std::ptrdiff_t{64} * 8));
  CHECK(std::equal(trace.routing[1].counts.begin(), trace.routing[1].counts.end(),
                   all.fit[1].counts.begin() + 64));

  const auto split = olmoe::record_logits(model, native, texts,
                                          {.window = 64, .skip_first = 4, .held_out_share = 0.1});
  CHECK(split.fit[0].tokens() == 9 * 60);              // 9 whole windows
  CHECK(split.held_out[0].tokens() == 600 - 576 - 4);  // and the rest of the text

  CHECK_THROWS_AS(olmoe::record_logits(model, native, texts, {.window = 65}),
                  std::invalid_argument);
  CHECK_THROWS_AS(olmoe::record_logits(model, native, texts, {.window = 8, .skip_first = 8}),
                  std::invalid_argument);
  const std::vector<Text> one{{"one window", {1, 2, 3}, ""}};
  CHECK(error_of([&] {
          olmoe::record_logits(model, native, one, {.window = 8, .held_out_share = 0.1});
        }) ==
        "one window: is too short to hold a window of 8 tokens out: it has 3; give more "
        "text, or other text to check the fit on (--held-out FILE)");
}

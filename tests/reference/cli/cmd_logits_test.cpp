// olmoe logits

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "formats/safetensors.hpp"
#include "reference/run_olmoe.hpp"
#include "reference/temp_dir.hpp"

TEST_CASE("logits writes what was executed, for ids as JSON, as safetensors and as text") {
  const TempDir directory;
  const std::string out = (directory.path() / "out.safetensors").string();
  const auto ids = directory.write("ids.json", "[[5, 6, 7], [8, 9, 10]]").string();
  const Outcome outcome = run_olmoe({"logits", "--model", plain.string(), "--ids", ids, "--out",
                                     out, "--route", "bh:alpha=0.3,null=normal,max_k=5"});
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  const olmoe::SafetensorsFile file(out);
  CHECK(file.at("logits").shape == olmoe::Shape{2, 3, 112});
  CHECK(file.at("router_logits.1").shape == olmoe::Shape{6, 8});
  CHECK(file.at("selected_experts.0").shape == olmoe::Shape{6, 5});
  CHECK(file.at("routing_weights.0").shape == olmoe::Shape{6, 5});
  const auto counts = file.at("expert_counts.0").to_int64();
  const auto experts = file.at("selected_experts.0").to_int64();
  for (std::size_t t = 0; t < counts.size(); ++t) {
    for (std::size_t i = 0; i < 5; ++i)
      CHECK((experts[t * 5 + i] >= 0) == (static_cast<std::int64_t>(i) < counts[t]));
  }

  // The same ids from a capture give the capture's logits.
  const Outcome captured = run_olmoe({"logits", "--model", plain.string(), "--ids",
                                      (plain / "capture.safetensors").string(), "--out", out});
  REQUIRE(captured.code == 0);
  const auto actual = olmoe::SafetensorsFile(out).at("logits").to_float();
  const auto expected =
      olmoe::SafetensorsFile(plain / "capture.safetensors").at("logits").to_float();
  REQUIRE(actual.size() == expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i)
    REQUIRE(actual[i] == doctest::Approx(expected[i]).epsilon(1e-4));

  const Outcome text =
      run_olmoe({"logits", "--model", nano.string(), "--text", "In the beginning", "--out", out});
  CHECK(text.code == 0);
  CHECK(olmoe::SafetensorsFile(out).at("logits").shape.at(2) == 4096);
}

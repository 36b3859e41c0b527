// olmoe inspect

#include <doctest/doctest.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

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

TEST_CASE("inspect --json holds what the text says") {
  const Outcome text = run_olmoe({"inspect", "-m", nano.string()});
  const Outcome outcome = run_olmoe({"inspect", "-m", nano.string(), "--json"});
  REQUIRE(outcome.code == 0);
  const auto document = nlohmann::json::parse(outcome.out);
  CHECK(document["schema"] == "fdroute-olmoe/1");
  CHECK(document["command"] == "inspect");
  CHECK(document["model"] == nano.string());
  const auto says = [&](const std::string& name, const std::string& field) {
    const std::string line =
        "\n" + name + std::string(21 - name.size(), ' ') + document[field].dump();
    CAPTURE(line);
    CHECK(text.out.find(line) != std::string::npos);
  };
  says("layers", "layers");
  says("hidden size", "hidden_size");
  says("experts", "experts");
  says("vocabulary", "vocabulary");
  says("positions", "positions");
  says("weight files", "weight_files");
  says("parameters", "parameters");
  CHECK(document["experts_per_token"] == 8);
  // 4 layers, a key and a value of 128.
  const nlohmann::json kv{{"f32", 4096}, {"f16", 2048}, {"bf16", 2048}};
  CHECK(document["kv_bytes_per_position"] == kv);
  CHECK(
      text.out.find("\nkeys and values      4.10 kB a position in f32, 2.05 kB in f16 and bf16") !=
      std::string::npos);
  CHECK(document["parameters"] > document["expert_parameters"]);
  std::uint64_t parameters = 0;
  for (const auto& dtype : document["dtypes"])
    parameters += dtype["parameters"].get<std::uint64_t>();
  CHECK(document["parameters"] == parameters);
}

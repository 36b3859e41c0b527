// olmoe verify

#include <doctest/doctest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "formats/safetensors.hpp"
#include "formats/safetensors_writer.hpp"
#include "kernels/isa.hpp"
#include "reference/run_olmoe.hpp"
#include "reference/temp_dir.hpp"

TEST_CASE("verify passes on the bundled model, and one changed weight byte fails it") {
  const Outcome good = run_olmoe(
      {"verify", "--model", nano.string(), "--capture", (nano / "capture.safetensors").string()});
  CAPTURE(good.err);
  CHECK(good.code == 0);
  CHECK(good.out.find("route native") != std::string::npos);
  CHECK(good.out.find("route bh:") != std::string::npos);
  CHECK(good.out.find("FAILED") == std::string::npos);

  const TempDir copy;
  for (const auto& entry : std::filesystem::directory_iterator(nano)) {
    if (entry.is_regular_file())
      std::filesystem::copy_file(entry.path(), copy.path() / entry.path().filename());
  }
  std::string weights = read(nano / "model.safetensors");
  weights[weights.size() / 2] = static_cast<char>(weights[weights.size() / 2] ^ 1);
  copy.write("model.safetensors", weights);
  const Outcome changed = run_olmoe({"verify", "--model", copy.path().string(), "--capture",
                                     (nano / "capture.safetensors").string()});
  CHECK(changed.code == 1);
  CHECK(changed.out.find("FAILED") != std::string::npos);
  CHECK(changed.err.find("does not reproduce this capture") != std::string::npos);
}

TEST_CASE("a policy that a capture names wrongly is a fault of the capture, no usage error") {
  std::string capture = read(plain / "capture.safetensors");
  const std::string policy = "bh:alpha=0.3";
  REQUIRE(capture.find(policy) != std::string::npos);
  capture.replace(capture.find(policy), policy.size(), "xx:alpha=0.3");
  const TempDir directory;
  const std::string file = directory.write("x.safetensors", capture).string();
  const Outcome outcome = run_olmoe({"verify", "--model", plain.string(), "--capture", file});
  CHECK(outcome.code == 1);
  CHECK(outcome.err.starts_with("olmoe: " + file + ": metadata 'bh.policy': policy 'xx:"));
}

TEST_CASE("the integration test of the published weights fails on others") {
  const TempDir directory;
  nlohmann::json config = nlohmann::json::parse(read(plain / "config.json"));
  config["vocab_size"] = 7000;
  const auto file = directory.write("config.json", config.dump()).string();
  const std::string model = (directory.path() / "model").string();
  REQUIRE(run_olmoe({"make-random", "--config", file, "--seed", "1", "--out", model}).code == 0);
  const Outcome outcome =
      run_olmoe({"verify", "--model", model, "--preset", "hf-integration-test"});
  CHECK(outcome.code == 1);
  CHECK(outcome.out.find("FAILED") != std::string::npos);
  CHECK(
      outcome.err ==
      "olmoe: " + model +
          ": is not allenai/OLMoE-1B-7B-0924, or its logits are not those of transformers' test\n");
  check_error({"verify", "--model", plain.string(), "--preset", "hf-integration-test"}, 1,
              {"outside the vocabulary of 112"});
  CHECK(run_olmoe({"verify", "--model", plain.string(), "--preset", "other"}).code == 2);
}

TEST_CASE("verify tells how near a capture of transformers' bfloat16 is") {
  const std::filesystem::path file = nano / "capture_bf16.safetensors";
  const auto verify = [](const std::filesystem::path& capture, const std::string& compute) {
    return run_olmoe(
        {"verify", "--model", nano.string(), "--capture", capture.string(), "--compute", compute});
  };
  std::vector<std::string> computes{"f32"};
  if (olmoe::bf16_dot() != nullptr) {
    computes.emplace_back("bf16");
  } else {
    MESSAGE("bf16 skipped: this processor has no AVX512_BF16");
  }
  // Had transformers' bfloat16 been exact, nothing else could be as near.
  const TempDir directory;
  const auto exact = directory.path() / "exact.safetensors";
  const olmoe::SafetensorsFile capture(file);
  const auto copy = [&](const std::string& name, const std::string& from) {
    const olmoe::Tensor& tensor = capture.at(from);
    return olmoe::NamedTensor{name, tensor.dtype, tensor.shape, tensor.bytes};
  };
  olmoe::write_safetensors(exact,
                           {copy("input_ids", "input_ids"), copy("logits", "f32.logits"),
                            copy("f32.logits", "f32.logits")},
                           capture.metadata());
  for (const std::string& compute : computes) {
    const Outcome good = verify(file, compute);
    CAPTURE(good.err);
    CHECK(good.code == 0);
    CHECK(good.out.find(compute + " here - float32 there") != std::string::npos);
    const Outcome bad = verify(exact, compute);
    CHECK(bad.code == 1);
    CHECK(bad.err.find("transformers' bfloat16 is nearer") != std::string::npos);
  }
}

TEST_CASE("verify --json has an object for every line, and fails as the text does") {
  const std::vector<std::string> command{"verify", "-m", plain.string(), "--capture",
                                         (plain / "capture.safetensors").string()};
  std::vector<std::string> with_json = command;
  with_json.emplace_back("--json");
  const Outcome text = run_olmoe(command);
  const Outcome good = run_olmoe(with_json);
  CHECK(good.code == 0);
  const auto document = nlohmann::json::parse(good.out);
  CHECK(document["schema"] == "fdroute-olmoe/1");
  CHECK(document["command"] == "verify");
  CHECK(document["passed"] == true);
  std::size_t ok = 0;
  for (std::size_t at = text.out.find("  ok\n"); at != std::string::npos;
       at = text.out.find("  ok\n", at + 1))
    ++ok;
  std::size_t compared = 0;
  for (const auto& row : document["comparisons"]) {
    CAPTURE(row.dump());
    CHECK(row["passed"] == true);
    if (row.contains("value")) continue;  // a number that is only shown
    ++compared;
    CHECK(text.out.find("\n" + row["name"].get<std::string>() + " ") != std::string::npos);
  }
  CHECK(compared == ok);

  with_json.insert(with_json.end(), {"--atol", "0"});
  const Outcome bad = run_olmoe(with_json);
  CHECK(bad.code == 1);
  CHECK(bad.err.find("does not reproduce this capture") != std::string::npos);
  CHECK(nlohmann::json::parse(bad.out)["passed"] == false);
}

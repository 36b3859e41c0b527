#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cli/batch.hpp"
#include "cli/commands.hpp"
#include "cli/common_options.hpp"
#include "cli/integration_test.hpp"
#include "cli/json_output.hpp"
#include "cli/verify.hpp"
#include "formats/checkpoint.hpp"
#include "formats/error.hpp"
#include "formats/json.hpp"
#include "formats/sha256.hpp"
#include "forward/generation.hpp"
#include "routing/routing.hpp"
#include "terminal/progress.hpp"

namespace olmoe {
namespace {

using Json = nlohmann::ordered_json;

/// A capture's text, fit for a terminal.
std::string shown(const std::string& text) {
  constexpr std::size_t longest = 2000;  // a policy may list values of many layers
  return one_line(text, longest);
}

template <class... Values>
std::string format(const char* pattern, Values... values) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), pattern, values...);
  return text.data();
}

/// What has been compared: lines of a table, or, with --json, objects.
class Comparison {
 public:
  Comparison(const SafetensorsFile& capture, const VerifyOptions& options)
      : capture_(capture), atol_(options.atol), json_(options.json), table_(options.table) {}

  bool passed() const { return passed_; }

  /// One object per compared thing, with `route`, `name` and `passed`.
  const Json& rows() const { return rows_; }

  /// What follows is of this policy.
  void begin(const std::string& policy) {
    route_ = policy;
    if (!json_)
      std::fprintf(table_, "\nroute %s\n%-26s %-14s %25s\n", shown(policy).c_str(), "tensor",
                   "shape", "max |diff|   rel. error");
  }

  /// Floats, within atol, or within atol times the largest reference value where `scaled`.
  void close(const std::string& name, std::span<const float> actual, bool scaled) {
    const Tensor& tensor = capture_.at(name);
    const std::vector<float> expected = tensor.to_float();
    check_size(tensor, actual.size());
    double largest = 0.0;
    double difference = 0.0;
    double squares = 0.0;
    double square_differences = 0.0;
    bool comparable = true;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const auto e = static_cast<double>(expected[i]);
      const double d = std::abs(static_cast<double>(actual[i]) - e);
      comparable = comparable && std::isfinite(d);
      largest = std::max(largest, std::abs(e));
      difference = std::max(difference, d);
      squares += e * e;
      square_differences += d * d;
    }
    const double tolerance = scaled ? atol_ * std::max(1.0, largest) : atol_;
    const double relative = squares > 0.0 ? std::sqrt(square_differences / squares) : 0.0;
    row(name, to_string(tensor.shape), format("%12.2e %12.2e", difference, relative),
        comparable && difference <= tolerance,
        {{"shape", tensor.shape}, {"max_difference", difference}, {"relative_error", relative}});
  }

  /// Integers, all equal.
  void equal(const std::string& name, std::span<const std::int32_t> actual) {
    const Tensor& tensor = capture_.at(name);
    const std::vector<std::int64_t> expected = tensor.to_int64();
    check_size(tensor, actual.size());
    std::size_t differing = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) differing += expected[i] != actual[i];
    row(name, to_string(tensor.shape), format("%zu of %zu differ", differing, expected.size()),
        differing == 0,
        {{"shape", tensor.shape}, {"differing", differing}, {"elements", expected.size()}});
  }

  /// The most likely next token at every position.
  void argmax(const std::string& name, std::span<const float> actual, std::size_t vocabulary) {
    const std::vector<float> expected = capture_.at(name).to_float();
    std::size_t agreeing = 0;
    const std::size_t tokens = expected.size() / vocabulary;
    const auto most_likely = [&](std::span<const float> logits, std::size_t token) {
      const auto of = logits.subspan(token * vocabulary, vocabulary);
      return std::max_element(of.begin(), of.end()) - of.begin();
    };
    for (std::size_t t = 0; t < tokens; ++t)
      agreeing += most_likely(expected, t) == most_likely(actual, t) ? 1 : 0;
    row(name + " argmax", "", format("%zu of %zu agree", agreeing, tokens), agreeing == tokens,
        {{"agreeing", agreeing}, {"tokens", tokens}});
  }

  /// A file of the checkpoint against its recorded checksum.
  void file(const std::string& name, const std::string& recorded, const std::string& actual) {
    row(name, "sha256",
        actual.substr(0, 12) + (recorded == actual ? "... as captured" : "... differs"),
        recorded == actual, {{"sha256", actual}, {"captured_sha256", recorded}});
  }

  /// A number that is only shown.
  void show(const std::string& name, double value) {
    if (json_) {
      rows_.push_back({{"route", route_}, {"name", name}, {"passed", true}, {"value", value}});
    } else {
      std::fprintf(table_, "%-26s %40.3f\n", name.c_str(), value);
    }
  }

 private:
  void row(const std::string& name, const std::string& shape, const std::string& result, bool good,
           const Json& numbers) {
    passed_ = passed_ && good;
    if (json_) {
      Json object{{"route", route_}, {"name", name}, {"passed", good}};
      object.update(numbers);
      rows_.push_back(std::move(object));
    } else {
      std::fprintf(table_, "%-26s %-14s %25s  %s\n", shown(name).c_str(), shape.c_str(),
                   result.c_str(), good ? "ok" : "FAILED");
    }
  }

  static void check_size(const Tensor& tensor, std::size_t actual) {
    if (tensor.count() != actual) {
      throw Error(tensor.origin + " has shape " + to_string(tensor.shape) + ", " +
                  std::to_string(tensor.count()) + " elements; the model computes " +
                  std::to_string(actual));
    }
  }

  const SafetensorsFile& capture_;
  double atol_;
  bool json_;
  std::FILE* table_;
  bool passed_ = true;
  std::string route_{};
  Json rows_ = Json::array();
};

std::string metadata(const SafetensorsFile& capture, const std::string& key) {
  const auto found = capture.metadata().find(key);
  if (found == capture.metadata().end())
    throw Error(capture.path().string() + ": metadata lacks '" + key + "'");
  return found->second;
}

/// Throws Error unless a name in a capture's metadata is that of a file in the model's directory.
void check_plain_file_name(const std::string& name, const SafetensorsFile& capture,
                           const std::string& key) {
  if (is_plain_file_name(name)) return;
  throw Error(capture.path().string() + ": metadata '" + key + "' names " + quote(name) +
              ", no plain file name");
}

/// The files the capture was made from must be the files at hand: a changed weight may belong to an
/// expert that no captured token reached.
void verify_files(const std::string& model, const SafetensorsFile& capture,
                  Comparison& comparison) {
  const auto json =
      parse_json(metadata(capture, "sha256"), capture.path().string() + ": metadata 'sha256'");
  if (!json.is_object() || json.empty())
    throw Error(capture.path().string() + ": metadata 'sha256' is not an object of checksums");
  for (const auto& [file, expected] : json.items()) {
    check_plain_file_name(file, capture, "sha256");
    const std::string actual = sha256_file(std::filesystem::path(model) / file);
    comparison.file(file, expected.is_string() ? expected.get<std::string>() : "", actual);
  }
}

/// What the model computes on a capture's input, and the tokens that it continues each sequence by,
/// as many as `new_tokens`.
std::pair<BatchResult, std::vector<std::int32_t>> run_capture(
    const Model& model, const TokenBatch& batch, std::int64_t new_tokens,
    std::span<const fdroute::AnyRouter> routers) {
  Progress progress({.what = "verify",
                     .unit = "tokens",
                     .total = static_cast<double>(batch.sequences * (batch.length + new_tokens))});
  progress.start("");
  std::int64_t done = 0;
  const auto advance = [&](std::int64_t tokens) {
    done += tokens;
    progress.update(static_cast<double>(done));
  };
  BatchResult result = run_batch(model, batch, routers, [&] { advance(batch.length); });
  std::vector<std::int32_t> generated;
  const GenerationOptions options{.max_new_tokens = static_cast<int>(new_tokens),
                                  .stop_at_eos = false};
  for (std::int64_t s = 0; s < batch.sequences; ++s) {
    generate(model, routers, batch.sequence(s), options, [&](std::int32_t id) {
      generated.push_back(id);
      advance(1);
    });
  }
  return {std::move(result), std::move(generated)};
}

/// Runs one policy on the capture's input and compares all that the capture holds of it, its names
/// prefixed with `prefix`.
void verify_policy(const Model& model, const SafetensorsFile& capture, const std::string& prefix,
                   std::span<const fdroute::AnyRouter> routers, Comparison& comparison) {
  const TokenBatch batch = token_batch(capture.at("input_ids"));
  const Tensor& greedy = capture.at(prefix + "greedy_ids");
  const TokenBatch expected = token_batch(greedy);
  const auto [result, generated] = run_capture(model, batch, expected.length, routers);
  const auto vocabulary = static_cast<std::size_t>(model.config().vocab_size);

  comparison.close(prefix + "logits", result.logits, false);
  comparison.argmax(prefix + "logits", result.logits, vocabulary);
  for (std::size_t i = 0; i < result.trace.hidden_states.size(); ++i) {
    const std::string name = prefix + "hidden_states." + std::to_string(i);
    if (capture.contains(name)) comparison.close(name, result.trace.hidden_states[i], true);
  }
  for (std::size_t l = 0; l < result.trace.routing.size(); ++l) {
    const ExecutedRouting& routing = result.trace.routing[l];
    const std::string suffix = "." + std::to_string(l);
    comparison.close(prefix + "router_logits" + suffix, routing.logits, true);
    if (capture.contains(prefix + "expert_counts" + suffix)) {
      comparison.equal(prefix + "expert_counts" + suffix, routing.counts);
      comparison.equal(prefix + "selected_experts" + suffix, routing.experts);
      comparison.close(prefix + "routing_weights" + suffix, routing.weights, false);
    }
  }

  comparison.equal(prefix + "greedy_ids", generated);
  ExpertCounter counter;
  for (const ExecutedRouting& routing : result.trace.routing) counter.add(routing.counts);
  comparison.show("mean experts per token", counter.mean());
}

/// How far two arrays of logits are apart.
struct Distance {
  double max = 0.0;
  double rms = 0.0;
  std::size_t agreeing = 0;  ///< tokens with the same most likely next one
  std::size_t tokens = 0;
};

Distance distance(std::span<const float> a, std::span<const float> b, std::size_t vocabulary) {
  Distance result;
  double squares = 0.0;
  for (std::size_t begin = 0; begin < a.size(); begin += vocabulary) {
    const auto one = a.subspan(begin, vocabulary);
    const auto other = b.subspan(begin, vocabulary);
    for (std::size_t i = 0; i < vocabulary; ++i) {
      const double d = static_cast<double>(one[i]) - static_cast<double>(other[i]);
      squares += d * d;
      result.max = std::max(result.max, std::abs(d));
    }
    const auto most_likely = [](std::span<const float> row) {
      return std::max_element(row.begin(), row.end()) - row.begin();
    };
    result.agreeing += most_likely(one) == most_likely(other) ? 1 : 0;
    ++result.tokens;
  }
  result.rms = std::sqrt(squares / static_cast<double>(a.size()));
  return result;
}

/// Logits of a capture. Throws Error if one is not finite.
std::vector<float> captured_logits(const SafetensorsFile& capture, const std::string& name,
                                   const Shape& shape) {
  const Tensor& tensor = capture.at(name, shape);
  std::vector<float> values = tensor.to_float();
  if (first_not_finite(values) < values.size())
    throw Error(tensor.origin + " holds numbers that are not finite");
  return values;
}

/// A capture of capture_bf16.py: passed if we are as near to transformers' float32 as its bfloat16.
bool verify_rounding(const Model& model, const VerifyOptions& options,
                     const SafetensorsFile& capture, Json& rows) {
  const TokenBatch batch = token_batch(capture.at("input_ids"));
  const auto routers = make_routers(model.config(), native_policy, std::filesystem::path());
  const std::vector<float> ours = run_batch(model, batch, routers).logits;
  const auto vocabulary = model.config().vocab_size;
  const Shape shape{batch.sequences, batch.length, vocabulary};
  const std::vector<float> rounded = captured_logits(capture, "logits", shape);
  const std::vector<float> exact = captured_logits(capture, "f32.logits", shape);

  if (!options.json)
    std::fprintf(options.table, "\n%-34s %12s %12s  %s\n", "logits", "max |diff|", "rms", "argmax");
  const auto line = [&](const std::string& what, const std::vector<float>& a,
                        const std::vector<float>& b) {
    const Distance d = distance(a, b, static_cast<std::size_t>(vocabulary));
    if (options.json) {
      rows.push_back({{"name", what},
                      {"max_difference", d.max},
                      {"rms", d.rms},
                      {"agreeing", d.agreeing},
                      {"tokens", d.tokens}});
    } else {
      std::fprintf(options.table, "%-34s %12.2e %12.2e  %zu of %zu agree\n", what.c_str(), d.max,
                   d.rms, d.agreeing, d.tokens);
    }
    return d.rms;
  };
  const std::string computed = std::string(name(options.compute)) + " here";
  const double here = line(computed + " - float32 there", ours, exact);
  const double there = line("bfloat16 there - float32 there", rounded, exact);
  line(computed + " - bfloat16 there", ours, rounded);
  return here <= there;
}

/// `--preset hf-integration-test`, for whoever has the published weights.
void verify_integration_test(const VerifyOptions& options, const Model& model) {
  KvCache cache;
  const auto routers = make_routers(model.config(), native_policy, std::filesystem::path());
  const auto logits =
      model.forward(IntegrationTest::ids, cache, routers, Model::LogitsOf::every_token);
  const auto means =
      IntegrationTest::row_means(logits, static_cast<std::size_t>(model.config().vocab_size));
  if (!options.json) std::printf("%8s %14s %14s\n", "token", "mean logit", "transformers");
  bool passed = true;
  Json rows = Json::array();
  for (std::size_t t = 0; t < means.size(); ++t) {
    const bool good = IntegrationTest::agrees(means[t], IntegrationTest::means[t]);
    passed = passed && good;
    rows.push_back({{"token", IntegrationTest::ids[t]},
                    {"mean_logit", means[t]},
                    {"expected", IntegrationTest::means[t]},
                    {"passed", good}});
    if (!options.json)
      std::printf("%8d %14.4f %14.4f  %s\n", IntegrationTest::ids[t], means[t],
                  IntegrationTest::means[t], good ? "ok" : "FAILED");
  }
  if (options.json)
    print_json("verify", {{"model", options.model},
                          {"preset", options.preset},
                          {"passed", passed},
                          {"comparisons", rows}});
  if (!passed)
    throw Error(options.model +
                ": is not allenai/OLMoE-1B-7B-0924, or its logits are not those of "
                "transformers' test");
  if (!options.json)
    std::printf("\nthe logits of transformers' test of allenai/OLMoE-1B-7B-0924\n");
}

/// Everything that a capture of capture_hf.py holds.
void verify_policies(const VerifyOptions& options, const Model& model,
                     const SafetensorsFile& capture, Comparison& comparison) {
  comparison.begin(native_policy);
  verify_policy(model, capture, "",
                make_routers(model.config(), native_policy, std::filesystem::path()), comparison);
  if (!capture.contains("bh.logits")) return;
  const std::string policy = metadata(capture, "bh.policy");
  std::filesystem::path nulls = options.nulls;
  const std::string recorded = metadata(capture, "bh.nulls");
  if (nulls.empty() && !recorded.empty()) {
    check_plain_file_name(recorded, capture, "bh.nulls");
    nulls = std::filesystem::path(options.model) / recorded;
  }
  comparison.begin(policy);
  const auto routers = [&] {
    try {
      return make_routers(model.config(), policy, nulls);
    } catch (const std::invalid_argument& error) {  // of an option it would be a usage error
      throw Error(capture.path().string() + ": metadata 'bh.policy': " + error.what());
    }
  }();
  verify_policy(model, capture, "bh.", routers, comparison);
}

}  // namespace

void verify_capture(const Model& model, const VerifyOptions& options) {
  const SafetensorsFile capture(options.capture);
  const std::string transformers = metadata(capture, "transformers");
  const std::string torch = metadata(capture, "torch");
  if (!options.json)
    std::fprintf(options.table, "%s against %s\n(transformers %s, torch %s)\n\n",
                 options.model.c_str(), options.capture.c_str(), shown(transformers).c_str(),
                 shown(torch).c_str());
  Comparison comparison(capture, options);
  verify_files(options.model, capture, comparison);

  const bool is_bf16 = capture.contains("f32.logits");
  bool as_near = true;
  Json rounding = Json::array();
  if (is_bf16) {
    as_near = verify_rounding(model, options, capture, rounding);
  } else {
    verify_policies(options, model, capture, comparison);
  }
  model.checkpoint().check_unchanged();
  if (options.json)
    print_json("verify", {{"model", options.model},
                          {"capture", options.capture},
                          {"transformers", transformers},
                          {"torch", torch},
                          {"atol", options.atol},
                          {"passed", comparison.passed() && as_near},
                          {"comparisons", comparison.rows()},
                          {"rounding", rounding}});
  if (!as_near)
    throw Error(options.capture + ": transformers' bfloat16 is nearer to its float32 than this");
  if (!comparison.passed())
    throw Error(options.capture + (is_bf16 ? ": is of another checkpoint"
                                           : ": the model does not reproduce this capture"));
  if (options.json) return;
  if (is_bf16) {
    std::fprintf(options.table,
                 "\nas near to transformers' float32 as transformers' bfloat16 is, or nearer\n");
  } else {
    std::fprintf(options.table, "\nall within %g of transformers\n", options.atol);
  }
}

void add_verify(CommandLine& line) {
  const Command command =
      line.subcommand("verify", "Compare with what transformers computed (capture_hf.py)");
  const auto options = std::make_shared<VerifyOptions>();
  add_model_option(command, options->model);
  const Command reference = command.exactly_one_of("Reference");
  reference.option("--capture", options->capture, "Capture of this checkpoint").shown_as("FILE");
  reference.word("--preset", options->preset, {"hf-integration-test"},
                 "hf-integration-test: what transformers' own test expects of the published "
                 "allenai/OLMoE-1B-7B-0924");
  command
      .option("--nulls", options->nulls,
              "Null distributions of the BH part; default: the file that the capture names")
      .shown_as("FILE");
  command
      .option("--atol", options->atol,
              "Tolerance: max |difference| of logits and weights; for router logits and hidden "
              "states, relative to their largest value if that is above 1")
      .shows_default()
      .at_least_0()
      .shown_as("A");
  add_json_option(command, options->json);
  add_quiet_option(command);
  add_compute_options(command, options->compute);
  add_kv_option(command, options->kv);
  command.example("olmoe verify -m reference/model --capture reference/model/capture.safetensors");
  command.runs([options] {
    const Model model(options->model, options->compute, options->kv);
    if (options->preset.empty()) return verify_capture(model, *options);
    verify_integration_test(*options, model);
    model.checkpoint().check_unchanged();
  });
}

}  // namespace olmoe

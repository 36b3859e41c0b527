#include <omp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <exception>
#include <fdroute/version.hpp>
#include <filesystem>
#include <iostream>
#include <limits>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "cli/commands.hpp"
#include "cli/random_checkpoint.hpp"
#include "formats/error.hpp"
#include "formats/json.hpp"
#include "formats/mapped_file.hpp"
#include "kernels/isa.hpp"
#include "kernels/wait_policy.hpp"
#include "sweep/sweep.hpp"

// The only translation unit that includes CLI11: it takes longer to compile than all that it calls.

#define OLMOE_TEXT_OF(x) #x
#define OLMOE_TEXT(x) OLMOE_TEXT_OF(x)

namespace olmoe {
namespace {

/// More are slower on every machine, and their stacks may not fit its memory.
constexpr int most_threads = 1024;

/// A whole number in [low, high]. CLI11's own conversion takes what does not fit the type for its
/// largest value and, of an unsigned type, -1 too.
template <class Integer>
CLI::Validator whole_number(Integer low, Integer high) {
  const auto check = [=](const std::string& text) -> std::string {
    Integer value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc{} && end == text.data() + text.size() && value >= low && value <= high)
      return {};
    return quote(text) + " is not a whole number from " + std::to_string(low) + " to " +
           std::to_string(high);
  };
  return {check, ""};
}

template <class Integer>
CLI::Validator at_least(Integer low) {
  return whole_number<Integer>(low, std::numeric_limits<Integer>::max());
}

/// A finite number that is not negative, or, if `positive`, above 0.
CLI::Validator finite_number(bool positive) {
  const auto check = [=](const std::string& text) -> std::string {
    double value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool number = error == std::errc{} && end == text.data() + text.size();
    if (number && std::isfinite(value) && (positive ? value > 0.0 : value >= 0.0)) return {};
    return quote(text) + " is not a finite number " + (positive ? "above 0" : "of at least 0");
  };
  return {check, ""};
}

void add_threads_option(CLI::App& command) {
  command
      .add_option_function<int>("--threads", omp_set_num_threads, "Number of threads; default: all")
      ->check(whole_number(1, most_threads))
      ->type_name("N");
}

/// OpenMP reads OMP_NUM_THREADS unchecked, and the memory of that many threads may not be had.
void limit_threads() {
  if (omp_get_max_threads() <= most_threads) return;
  std::cerr << "olmoe: warning: OMP_NUM_THREADS asks for " << omp_get_max_threads()
            << " threads, of at most " << most_threads << "; one per processor is used\n";
  omp_set_num_threads(std::min(omp_get_num_procs(), most_threads));
}

void add_kernel_options(CLI::App& command) {
  add_threads_option(command);
  command
      .add_option_function<std::string>(
          "--isa", [](const std::string& isa) { use_isa(std::string_view(isa)); },
          "Instruction set of the kernels: baseline, avx2 or avx512; default: the processor's best")
      ->type_name("ISA");
}

/// For the commands that run a model.
void add_compute_options(CLI::App& command, Compute& compute) {
  add_kernel_options(command);
  command
      .add_option("--compute", compute,
                  "Arithmetic of products with weight matrices: f32, or bf16, which rounds "
                  "activations to bfloat16 and needs AVX512_BF16 and BF16 weights")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, Compute>{{"f32", Compute::f32}, {"bf16", Compute::bf16}}))
      ->default_str("f32")
      ->type_name("f32|bf16");
}

void add_model_option(CLI::App& command, std::string& model) {
  command.add_option("--model", model, "Directory with a Hugging Face OLMoE checkpoint")
      ->required()
      ->type_name("DIR");
}

void add_route_options(CLI::App& command, RouteOptions& route) {
  command
      .add_option("--route", route.policy,
                  "Routing policy: native (the model's own top-k), topk:k=8, "
                  "bh:alpha=0.05,min_k=1,max_k=16 ...")
      ->capture_default_str()
      ->type_name("POLICY");
  command
      .add_option("--nulls", route.nulls,
                  "Null distributions, one per layer; default: nulls.safetensors in the model "
                  "directory, if there is one")
      ->type_name("FILE");
}

void add_generate(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("generate", "Continue a prompt");
  const auto options = std::make_shared<GenerateOptions>();
  add_model_option(command, options->model);
  command.add_option("--prompt", options->prompt, "Text to continue")
      ->required()
      ->type_name("TEXT");
  command
      .add_option("--max-new-tokens", options->generation.max_new_tokens, "Longest continuation")
      ->capture_default_str()
      ->check(whole_number(1, 1'000'000'000))
      ->type_name("N");
  add_route_options(command, options->route);
  command
      .add_option("--temperature", options->generation.temperature,
                  "0: always the most likely token; otherwise sample from softmax(logits / T)")
      ->capture_default_str()
      ->check(finite_number(false))
      ->type_name("T");
  command.add_option("--seed", options->generation.seed, "Seed of the sampling")
      ->capture_default_str()
      ->check(at_least(std::uint64_t{0}))
      ->type_name("N");
  add_compute_options(command, options->compute);
  command.callback([options] { run_generate(*options); });
}

void add_tokenize(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("tokenize", "Turn text into token ids, or ids into text");
  const auto options = std::make_shared<TokenizeOptions>();
  command.add_option("--model", options->model, "Directory with a Hugging Face tokenizer.json")
      ->required()
      ->type_name("DIR");
  CLI::Option_group& input = *command.add_option_group("Input", "Exactly one of");
  input.add_option("--text", options->text, "Text; prints its ids as a JSON array")
      ->type_name("TEXT");
  input.add_option("--file", options->file, "A file whose whole content is the text; - is stdin")
      ->type_name("FILE");
  input
      .add_option("--jsonl", options->jsonl,
                  "A file with a text per line, as a JSON string; prints an array per line; - is "
                  "stdin")
      ->type_name("FILE");
  input
      .add_option("--decode", options->ids,
                  "Ids to turn into text: a JSON array, or separated by commas or spaces")
      ->type_name("IDS");
  input.require_option(1);
  add_threads_option(command);
  command.callback([options] { run_tokenize(*options); });
}

void add_logits(CLI::App& app) {
  CLI::App& command =
      *app.add_subcommand("logits", "Write the logits of token sequences to a file");
  const auto options = std::make_shared<LogitsOptions>();
  add_model_option(command, options->model);
  CLI::Option_group& input = *command.add_option_group("input");
  input
      .add_option("--ids", options->ids,
                  "JSON array of ids (or of arrays), or a .safetensors file with input_ids")
      ->type_name("FILE");
  input.add_option("--text", options->text, "Text, encoded by the model's tokenizer");
  input.require_option(1);
  command.add_option("--out", options->out, "safetensors file to write")
      ->required()
      ->type_name("FILE");
  add_route_options(command, options->route);
  add_compute_options(command, options->compute);
  command.callback([options] { run_logits(*options); });
}

void add_verify(CLI::App& app) {
  CLI::App& command =
      *app.add_subcommand("verify", "Compare with what transformers computed (capture_hf.py)");
  const auto options = std::make_shared<VerifyOptions>();
  add_model_option(command, options->model);
  CLI::Option_group& reference = *command.add_option_group("Reference", "Exactly one of");
  reference.add_option("--capture", options->capture, "Capture of this checkpoint")
      ->type_name("FILE");
  reference
      .add_option("--preset", options->preset,
                  "hf-integration-test: what transformers' own test expects of the published "
                  "allenai/OLMoE-1B-7B-0924")
      ->check(CLI::IsMember({"hf-integration-test"}));
  reference.require_option(1);
  command
      .add_option("--nulls", options->nulls,
                  "Null distributions of the BH part; default: the file that the capture names")
      ->type_name("FILE");
  command
      .add_option("--atol", options->atol,
                  "Tolerance: max |difference| of logits and weights; for router logits and hidden "
                  "states, relative to their largest value if that is above 1")
      ->capture_default_str()
      ->check(finite_number(false))
      ->type_name("A");
  add_compute_options(command, options->compute);
  command.callback([options] { run_verify(*options); });
}

void add_perplexity(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("perplexity", "Perplexity of texts, with its error");
  const auto options = std::make_shared<PerplexityOptions>();
  add_model_option(command, options->model);
  command
      .add_option("--text", options->texts,
                  "UTF-8 text files, each a domain of its own; a directory means its *.txt")
      ->required()
      ->type_name("FILE...");
  add_route_options(command, options->route);
  command
      .add_option("--window", options->evaluation.window,
                  "Tokens run together; default: what the model was made for, at most 1024")
      ->check(at_least(std::int64_t{1}))
      ->type_name("N");
  command
      .add_option("--stride", options->evaluation.stride,
                  "Tokens from one window to the next; default: half a window")
      ->check(at_least(std::int64_t{1}))
      ->type_name("N");
  add_compute_options(command, options->compute);
  command.callback([options] { run_perplexity(*options); });
}

void add_calibrate(CLI::App& app) {
  CLI::App& command = *app.add_subcommand(
      "calibrate", "Fit null distributions to a text's router scores; solve for a mean count");
  const auto options = std::make_shared<CalibrateOptions>();
  add_model_option(command, options->model);
  command.add_option("--text", options->texts, "UTF-8 text files; a directory means its *.txt")
      ->required()
      ->type_name("FILE...");
  command.add_option("--out", options->out, "safetensors file to write")
      ->required()
      ->type_name("FILE");
  command
      .add_option("--held-out", options->held_out,
                  "Text to check the fit on; default: the last tenth of each --text's windows, "
                  "which the fit then leaves out")
      ->type_name("FILE...");
  command.add_option("--score", options->null.score, "What the null distribution is of")
      ->capture_default_str()
      ->check(CLI::IsMember({"logit", "log_softmax", "zscore"}));
  command
      .add_option("--trim", options->null.trim,
                  "Leave out each token's N largest scores; 0: none, the marginal distribution")
      ->capture_default_str()
      ->check(at_least(0))
      ->type_name("N");
  command.add_option("--method", options->null.method, "Kernel density or empirical distribution")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, NullMethod>{{"kde", NullMethod::kde}, {"ecdf", NullMethod::ecdf}}))
      ->default_str("kde")
      ->type_name("kde|ecdf");
  command
      .add_option("--skip-first", options->recording.skip_first,
                  "Leave out the first N tokens of each window")
      ->capture_default_str()
      ->check(at_least(std::int64_t{0}))
      ->type_name("N");
  command
      .add_option("--window", options->recording.window,
                  "Tokens run together; default: what the model was made for, at most 1024")
      ->check(at_least(std::int64_t{1}))
      ->type_name("N");
  CLI::Option& target =
      *command
           .add_option("--target-experts", options->target_experts,
                       "Solve --policy's open value, so that a token gets K experts on average")
           ->check(finite_number(true))
           ->type_name("K");
  command.add_flag("--per-layer", options->per_layer, "One value per layer, K experts in each")
      ->needs(&target);
  command.add_option("--policy", options->policy, "Policy with ? for the value to solve for")
      ->capture_default_str()
      ->needs(&target)
      ->type_name("POLICY");
  add_compute_options(command, options->compute);
  command.callback([options] { run_calibrate(*options); });
}

/// "3/8" as shard 3 of 8.
void parse_shard(const std::string& text, SweepOptions& options) {
  const char* const end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, options.shard);
  const bool slash = first.ec == std::errc{} && first.ptr != end && *first.ptr == '/';
  const auto second = std::from_chars(slash ? first.ptr + 1 : end, end, options.shards);
  if (!slash || second.ec != std::errc{} || second.ptr != end)
    throw std::invalid_argument("--shard takes I/N, such as 1/4, got " + quote(text));
}

void add_sweep(CLI::App& app) {
  CLI::App& command = *app.add_subcommand(
      "sweep", "Measure a grid of routing policies against the model's own and write a report");
  const auto options = std::make_shared<SweepOptions>();
  const auto shard = std::make_shared<std::string>("1/1");
  command.add_option("--model", options->model, "Directory with a Hugging Face OLMoE checkpoint")
      ->required()
      ->type_name("DIR");
  command.add_option("--out", options->out, "Directory for the results")
      ->required()
      ->type_name("DIR");
  command
      .add_option(
          "--grid", options->grid,
          "bh21: top-k and BH at max_k 4 ... 64, alpha 0.01 ... 0.2; frontier: many families "
          "at matched mean experts; or a file of policy strings, one a line")
      ->capture_default_str()
      ->type_name("bh21|frontier|FILE");
  command
      .add_option("--text", options->texts,
                  "Text to evaluate, one domain per file; default: MODEL/text/*.txt")
      ->type_name("FILE");
  command
      .add_option(
          "--calibration-text", options->calibration_texts,
          "Text that grid frontier fits nulls and parameters on; default: the first quarter "
          "of every --text, which is then not evaluated")
      ->type_name("FILE");
  command
      .add_option("--prompts", options->prompts,
                  "Prompts to continue, a JSON array of {\"class\": ..., \"text\": ...}; default: "
                  "twelve built in")
      ->type_name("FILE");
  command
      .add_option("--nulls", options->nulls,
                  "Null distributions; default: nulls.safetensors in the model directory")
      ->type_name("FILE");
  command
      .add_option("--max-tokens", options->max_tokens,
                  "Tokens to predict of each text, its first ones; 0: all")
      ->capture_default_str()
      ->check(at_least(std::int64_t{0}))
      ->type_name("N");
  command
      .add_option("--window", options->window,
                  "Tokens per window; default: the model's positions, at most 512")
      ->check(at_least(std::int64_t{1}))
      ->type_name("N");
  command
      .add_option("--stride", options->stride,
                  "Tokens from a window to the next; default: the window, without overlap")
      ->check(at_least(std::int64_t{1}))
      ->type_name("N");
  command
      .add_option("--new-tokens", options->new_tokens, "New tokens per prompt; 0: no generation")
      ->capture_default_str()
      ->check(at_least(0))
      ->type_name("N");
  command
      .add_option(
          "--shard", *shard,
          "Measure only configurations I, I + N, I + 2N ...; `olmoe merge` unites the shards")
      ->type_name("I/N");
  command.add_flag("--resume", options->resume, "Go on with the sweep that --out holds");
  add_compute_options(command, options->compute);
  command.callback([options, shard] {
    parse_shard(*shard, *options);
    run_sweep(*options);
  });
}

void add_merge(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("merge", "Unite the shards of a sweep");
  struct Options {
    std::filesystem::path out;
    std::filesystem::path model;
    std::vector<std::filesystem::path> shards;
  };
  const auto options = std::make_shared<Options>();
  command.add_option("--out", options->out, "Directory for the whole sweep, new")
      ->required()
      ->type_name("DIR");
  command
      .add_option("--model", options->model,
                  "Directory of the checkpoint: check that the shards were measured on it")
      ->type_name("DIR");
  command.add_option("shards", options->shards, "Directories that sweep --shard wrote")
      ->required()
      ->type_name("DIR");
  command.callback([options] { merge_sweeps(options->out, options->shards, options->model); });
}

void add_make_random(CLI::App& app) {
  CLI::App& command =
      *app.add_subcommand("make-random", "Write a checkpoint of random weights, of any shape");
  const auto options = std::make_shared<RandomCheckpointOptions>();
  command.add_option("--config", options->config, "The config.json to follow")
      ->required()
      ->type_name("FILE");
  command.add_option("--out", options->out, "Directory for the checkpoint")
      ->required()
      ->type_name("DIR");
  command.add_option("--seed", options->seed, "Seed of the weights")
      ->capture_default_str()
      ->check(at_least(std::uint64_t{0}))
      ->type_name("N");
  command.add_option("--dtype", options->dtype, "Type of the weights")
      ->transform(CLI::CheckedTransformer(std::map<std::string, DType>{
          {"bf16", DType::BF16}, {"f16", DType::F16}, {"f32", DType::F32}}))
      ->default_str("bf16")
      ->type_name("bf16|f16|f32");
  command
      .add_option("--max-shard-size", options->max_shard_size,
                  "Most bytes of weights in a file, such as 500MB (10^6) or 4GiB (2^30)")
      ->transform(CLI::AsSizeValue(true))
      // Before the other, which takes -1 for the largest size.
      ->transform(CLI::Validator(
          [](std::string& text) -> std::string {
            if (!text.empty() && text.front() >= '0' && text.front() <= '9') return {};
            return quote(text) + " is no size";
          },
          ""))
      ->default_str("5GB")
      ->type_name("S");
  add_threads_option(command);
  command.callback([options] { make_random_checkpoint(*options); });
}

void add_inspect(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("inspect", "Describe a checkpoint");
  const auto model = std::make_shared<std::string>();
  add_model_option(command, *model);
  add_kernel_options(command);
  command.callback([model] { run_inspect(*model); });
}

/// One line on stderr, whatever the message quotes.
void complain(const std::exception& error, const char* advice = "") {
  std::cerr << "olmoe: " << one_line(error.what(), message_limit) << advice << '\n';
}

}  // namespace
}  // namespace olmoe

int main(int argc, char** argv) {
  olmoe::sleep_while_waiting(argv);
  using olmoe::complain;
  constexpr int failure = 1;
  constexpr int usage = 2;

  CLI::App app("olmoe: OLMoE on the CPU, routed by fdroute");
  app.set_version_flag("--version",
                       OLMOE_TEXT(FDROUTE_VERSION_MAJOR) "." OLMOE_TEXT(
                           FDROUTE_VERSION_MINOR) "." OLMOE_TEXT(FDROUTE_VERSION_PATCH));
  app.require_subcommand(1);
  olmoe::add_generate(app);
  olmoe::add_tokenize(app);
  olmoe::add_logits(app);
  olmoe::add_verify(app);
  olmoe::add_inspect(app);
  olmoe::add_make_random(app);
  olmoe::add_perplexity(app);
  olmoe::add_calibrate(app);
  olmoe::add_sweep(app);
  olmoe::add_merge(app);
  olmoe::report_truncated_files();
  olmoe::limit_threads();
  try {
    app.parse(argc, argv);
    std::cout.flush();
    if (!std::cout) throw std::runtime_error("cannot write to standard output");
    return 0;
  } catch (const CLI::Success& request) {  // for help or the version
    return app.exit(request);
  } catch (const CLI::ParseError& error) {
    complain(error, " (see --help)");
    return usage;
  } catch (const std::invalid_argument& error) {
    complain(error);
    return usage;
  } catch (const std::bad_alloc&) {
    std::cerr << "olmoe: out of memory\n";
    return failure;
  } catch (const std::exception& error) {
    complain(error);
    return failure;
  }
}

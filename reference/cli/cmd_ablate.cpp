#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/common_options.hpp"
#include "formats/error.hpp"
#include "forward/model.hpp"
#include "measure/ablation.hpp"
#include "measure/at.hpp"
#include "measure/texts.hpp"
#include "routing/nulls.hpp"
#include "routing/nulls_model.hpp"
#include "terminal/progress.hpp"
#include "tokenizer/tokenizer.hpp"

namespace olmoe {
namespace {

struct AblateOptions {
  std::string model;
  Compute compute = Compute::f32;
  Storage kv = Storage::f32;
  std::vector<std::string> texts;
  std::string nulls;
  AblationOptions ablation;
  double epsilon = 0.001;
};

using Ablated = std::vector<AblatedExpert>;

/// Share of those for which `is` holds, of which there is at least one.
double share(const Ablated& of, const std::function<bool(const AblatedExpert&)>& is) {
  return static_cast<double>(std::count_if(of.begin(), of.end(), is)) /
         static_cast<double>(of.size());
}

Ablated only(const Ablated& of, const std::function<bool(const AblatedExpert&)>& is) {
  Ablated result;
  std::copy_if(of.begin(), of.end(), std::back_inserter(result), is);
  return result;
}

void print_row(const Ablated& experts, double epsilon) {
  double sum = 0.0;
  double squares = 0.0;
  for (const AblatedExpert& e : experts) {
    sum += e.cost;
    squares += e.cost * e.cost;
  }
  const auto n = static_cast<double>(experts.size());
  const double mean = sum / n;
  std::printf("  %7zu  %9.5f  %7.5f  %7.1f%%\n", experts.size(), mean,
              std::sqrt(std::max(squares / n - mean * mean, 0.0)),
              100.0 * share(experts, [&](const auto& e) { return e.cost < epsilon; }));
}

void print_by_rank(const Ablated& all, double epsilon) {
  std::printf("%12s  %7s  %9s  %7s  %8s\n", "rank", "experts", "mean cost", "sd", "needless");
  int last = 0;
  for (const AblatedExpert& e : all) last = std::max(last, e.rank);
  for (int rank = 0; rank <= last; ++rank) {
    std::printf("%12d", rank + 1);
    print_row(only(all, [&](const auto& e) { return e.rank == rank; }), epsilon);
  }
}

void print_by_p(Ablated all, double epsilon) {
  constexpr std::size_t groups = 5;
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.p < b.p; });
  std::printf("\n%12s  %7s  %9s  %7s  %8s\n", "p up to", "experts", "mean cost", "sd", "needless");
  for (std::size_t g = 0; g < groups; ++g) {
    const auto place = [&](std::size_t i) {
      return all.begin() + static_cast<std::ptrdiff_t>(i * all.size() / groups);
    };
    const Ablated group(place(g), place(g + 1));
    if (group.empty()) continue;
    std::printf("%12.3g", group.back().p);
    print_row(group, epsilon);
  }
}

/// Conformal p-values of the tokens drawn at odd numbers, by the needless experts of the others.
Ablated conformal(const Ablated& all, double epsilon) {
  const auto calibrates = [](const AblatedExpert& e) { return e.token % 2 == 0; };
  std::vector<std::vector<double>> needless;
  for (const AblatedExpert& e : all) {
    if (at(e.layer) >= needless.size()) needless.resize(at(e.layer) + 1);
    if (calibrates(e) && e.cost < epsilon) needless[at(e.layer)].push_back(e.score);
  }
  for (auto& layer : needless) std::sort(layer.begin(), layer.end());
  Ablated rest = only(all, [&](const auto& e) { return !calibrates(e); });
  for (AblatedExpert& e : rest) e.p = conformal_p(needless[at(e.layer)], e.score);
  return rest;
}

void print_nulls(const Ablated& all, double epsilon) {
  const auto is_needless = [&](const AblatedExpert& e) { return e.cost < epsilon; };
  const Ablated trimmed = only(all, [](const auto& e) { return e.token % 2 == 1; });
  std::printf("\n%-18s  %16s  %16s  %20s\n", "p <= 0.05 / p <= 0.2", "of needless", "of needed",
              "needless among these");
  const auto print = [&](const char* name, const Ablated& experts) {
    const Ablated needless = only(experts, is_needless);
    const Ablated needed = only(experts, [&](const auto& e) { return !is_needless(e); });
    if (needless.empty() || needed.empty()) throw Error("all labels are alike: take more tokens");
    std::array<double, 6> percents{};
    std::size_t i = 0;
    for (const double alpha : {0.05, 0.2}) {
      const auto small = [&](const AblatedExpert& e) { return e.p <= alpha; };
      const Ablated chosen = only(experts, small);
      percents[i] = 100.0 * share(needless, small);
      percents[i + 2] = 100.0 * share(needed, small);
      percents[i + 4] = chosen.empty() ? 0.0 : 100.0 * share(chosen, is_needless);
      ++i;
    }
    std::printf("%-20s  %6.1f%% / %5.1f%%  %6.1f%% / %5.1f%%  %9.1f%% / %5.1f%%\n", name,
                percents[0], percents[1], percents[2], percents[3], percents[4], percents[5]);
  };
  print("trimmed null", trimmed);
  print("conformal", conformal(all, epsilon));
}

void run(const AblateOptions& options) {
  const Model model(options.model, options.compute, options.kv);
  const auto tokenizer = Tokenizer::load(std::filesystem::path(options.model) / "tokenizer.json");
  const auto texts = load_texts(options.texts, tokenizer);
  const std::filesystem::path file =
      options.nulls.empty() ? std::filesystem::path(options.model) / "nulls.safetensors"
                            : std::filesystem::path(options.nulls);
  check_nulls_model(file, model);
  const auto nulls = load_nulls(file, model.config().num_hidden_layers);
  AblationOptions ablation = options.ablation;
  ablation.on_progress = counting_progress("ablation", "tokens");
  const Ablated all = ablate_experts(model, texts, nulls, ablation);
  model.checkpoint().check_unchanged();

  std::printf(
      "%lld tokens, each selected expert of each layer left out by itself: %zu runs\n"
      "cost: nats over the next %lld predictions; needless: a cost below %g\n\n",
      static_cast<long long>(options.ablation.tokens), all.size(),
      static_cast<long long>(options.ablation.ahead), options.epsilon);
  print_by_rank(all, options.epsilon);
  print_by_p(all, options.epsilon);
  print_nulls(all, options.epsilon);
}

}  // namespace

void add_ablate(CommandLine& line) {
  const Command command = line.subcommand(
      "ablate", "Leave out single experts, and compare what that costs with p-values");
  const auto options = std::make_shared<AblateOptions>();
  add_model_option(command, options->model);
  command.option("-f,--text", options->texts, "UTF-8 text files; a directory means its *.txt")
      .required()
      .shown_as("FILE...");
  command
      .option("--nulls", options->nulls,
              "Null distributions; default: nulls.safetensors in the model directory")
      .shown_as("FILE");
  command.option("--tokens", options->ablation.tokens, "Tokens to draw")
      .shows_default()
      .whole_number(std::int64_t{2})
      .shown_as("N");
  command.option("--context", options->ablation.context, "Tokens before each")
      .shows_default()
      .whole_number(std::int64_t{1})
      .shown_as("N");
  command
      .option("--ahead", options->ablation.ahead,
              "Predictions, the token's own the first, that a cost is the sum over")
      .shows_default()
      .whole_number(std::int64_t{1})
      .shown_as("N");
  command.option("--epsilon", options->epsilon, "An expert is needless if it costs less, in nats")
      .shows_default()
      .shown_as("E");
  command.option("-s,--seed", options->ablation.seed, "Of the draw")
      .shows_default()
      .whole_number(std::uint64_t{0})
      .shown_as("N");
  add_compute_options(command, options->compute);
  add_kv_option(command, options->kv);
  add_quiet_option(command);
  command.example("olmoe ablate -m reference/model -f reference/model/development --tokens 20");
  command.runs([options] { run(*options); });
}

}  // namespace olmoe

#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "forward/model.hpp"
#include "measure/evaluation.hpp"
#include "measure/texts.hpp"
#include "routing/routing.hpp"
#include "tokenizer/tokenizer.hpp"

namespace olmoe {
namespace {

/// "12.345 +- 0.067", or the value alone.
std::string with_error(const Estimate& estimate) {
  char text[64];
  if (estimate.error) {
    std::snprintf(text, sizeof text, "%.4f +- %.4f", estimate.value, *estimate.error);
  } else {
    std::snprintf(text, sizeof text, "%.4f", estimate.value);
  }
  return text;
}

void print_row(int width, const TextEvaluation& text) {
  std::printf("%-*s  %8lld  %18s  %22s  %7.3f\n", width, text.name.c_str(),
              static_cast<long long>(text.predicted_tokens), with_error(text.nll).c_str(),
              with_error(text.perplexity).c_str(), text.routing.counts.mean);
}

}  // namespace

void run_perplexity(const PerplexityOptions& options) {
  const Model model(options.model, options.compute);
  const auto routers = options.route.routers(options.model, model);
  const auto texts = load_texts(
      options.texts, Tokenizer::load(std::filesystem::path(options.model) / "tokenizer.json"));
  const Evaluation evaluation = evaluate(model, routers, texts, options.evaluation);
  model.checkpoint().check_unchanged();

  int width = static_cast<int>(evaluation.total.name.size());
  for (const Text& text : texts) width = std::max(width, static_cast<int>(text.name.size()));
  std::printf("policy %s\n%-*s  %8s  %18s  %22s  %7s\n", policy_of(routers).c_str(), width, "text",
              "tokens", "nll (nats/token)", "perplexity", "experts");
  for (const TextEvaluation& domain : evaluation.domains) print_row(width, domain);
  if (texts.size() == 1) return;
  print_row(width, evaluation.total);
  std::printf("%-*s  %8s  %18.4f  %22.4f\n", width, "macro", "", evaluation.macro_nll,
              evaluation.macro_perplexity);
}

}  // namespace olmoe

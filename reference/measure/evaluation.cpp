#include "measure/evaluation.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "formats/error.hpp"
#include "forward/completed_routing.hpp"
#include "forward/memory.hpp"
#include "forward/oracle_routing.hpp"
#include "measure/at.hpp"
#include "measure/parallel.hpp"
#include "measure/prediction.hpp"
#include "measure/shuffle.hpp"
#include "measure/windows.hpp"

namespace olmoe {
namespace {

EvaluationOptions with_defaults(const Config& config, EvaluationOptions options) {
  if (options.window == 0) options.window = default_window(config);
  if (options.stride == 0) options.stride = std::max<std::int64_t>(options.window / 2, 1);
  return options;
}

/// Everything that is summed over the tokens of a window, or of several.
struct Sums {
  Sums(int layers, int experts) : routing(at(layers), LayerSums(experts)) {}

  void add(const Sums& other) {
    scored += other.scored;
    nll += other.nll;
    kl += other.kl;
    agreeing += other.agreeing;
    for (std::size_t l = 0; l < routing.size(); ++l) routing[l].add(other.routing[l]);
  }

  std::int64_t scored = 0;
  double nll = 0.0;
  double kl = 0.0;
  std::int64_t agreeing = 0;
  std::vector<LayerSums> routing;
};

double kl_divergence(const Prediction& p, const Prediction& q) {
  double sum = 0.0;
  for (std::size_t id = 0; id < p.logits.size(); ++id) {
    const double log_p = p.log_probability(id);
    sum += std::exp(log_p) * (log_p - q.log_probability(id));
  }
  return sum;
}

/// A window, its text, and where its rows stand among those of all windows.
struct Job {
  std::size_t text;
  std::size_t document;  // of the text
  Window window;
  std::int64_t first_row;
  std::int64_t first_scored;

  std::int64_t scored() const { return window.length - window.scored; }
};

std::vector<Job> jobs_of(std::span<const Text> texts, const EvaluationOptions& options) {
  std::vector<Job> jobs;
  std::int64_t row = 0;
  std::int64_t scored = 0;
  for (std::size_t t = 0; t < texts.size(); ++t) {
    const std::vector<Document> documents = texts[t].all_documents();
    std::int64_t first = 0;
    for (std::size_t d = 0; d < documents.size(); ++d) {
      const std::int64_t tokens = documents[d].tokens;
      const std::int64_t length = std::min(options.window, tokens - 1);
      for (Window window : sliding_windows(tokens, length, std::min(options.stride, length))) {
        window.first += first;
        jobs.push_back({t, d, window, row, scored});
        row += window.length;
        scored += jobs.back().scored();
      }
      first += tokens;
    }
  }
  return jobs;
}

std::int64_t rows_of(std::span<const Job> jobs) {
  return jobs.back().first_row + jobs.back().window.length;
}

std::int64_t scored_of(std::span<const Job> jobs) {
  return jobs.back().first_scored + jobs.back().scored();
}

/// Jobs that are run together, by index.
using Batch = std::vector<std::size_t>;

std::vector<Batch> batches_of(const std::vector<Job>& jobs, const EvaluationOptions& options) {
  std::vector<std::size_t> order(jobs.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::size_t together = 1;
  if (options.group && options.group->kind == Grouping::Kind::batch) {
    together = at(options.group->size);
    constexpr std::uint64_t seed = 1;
    Shuffle{seed}(order);
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return jobs[a].window.length > jobs[b].window.length;
    });
  }
  std::vector<Batch> batches;
  for (auto begin = order.begin(); begin != order.end();) {
    const auto end = begin + std::min(std::ssize(order) - (begin - order.begin()),
                                      static_cast<std::ptrdiff_t>(together));
    batches.emplace_back(begin, end);
    begin = end;
  }
  return batches;
}

/// The ids that a window reads, and after them the last one that it predicts.
std::span<const std::int32_t> ids_of(const Text& text, const Window& window) {
  return std::span(text.ids).subspan(at(window.first), at(window.length) + 1);
}

/// Sums up one window from its trace. Touches only the window's own part of `record`.
Sums sum_window(const Model& model, const ForwardTrace& trace, const Text& text, const Job& job,
                const EvaluationRecord* baseline, EvaluationRecord* record) {
  const Config& config = model.config();
  const auto hidden = at(config.hidden_size);
  const auto vocabulary = at(config.vocab_size);
  const std::span<const std::int32_t> ids = ids_of(text, job.window);
  Sums sums(config.num_hidden_layers, config.num_experts);
  for (std::size_t l = 0; l < trace.routing.size(); ++l) sums.routing[l].add(trace.routing[l]);

  const std::span<const float> states =
      std::span<const float>(trace.hidden_states.back()).subspan(at(job.window.scored) * hidden);
  const std::size_t offset = at(job.first_scored) * hidden;
  const std::span<const std::int32_t> targets = ids.subspan(at(job.window.scored) + 1);
  sums.scored = job.scored();

  // Logits of a whole window may take much memory: a few rows at a time.
  constexpr std::size_t block = 64;
  for (std::size_t first = 0; first < targets.size(); first += block) {
    const std::size_t rows = std::min(block, targets.size() - first);
    const auto first_token = job.window.scored + static_cast<std::int64_t>(first);
    const auto logits = model.logits(states.subspan(first * hidden, rows * hidden), first_token);
    std::vector<float> reference;
    if (baseline != nullptr)
      reference = model.logits(std::span<const float>(baseline->hidden_states)
                                   .subspan(offset + first * hidden, rows * hidden),
                               first_token);
    for (std::size_t i = 0; i < rows; ++i) {
      const auto row = [&](const std::vector<float>& all) {
        return std::span<const float>(all).subspan(i * vocabulary, vocabulary);
      };
      const Prediction ours(row(logits));
      sums.nll -= ours.log_probability(at(targets[first + i]));
      if (baseline == nullptr) continue;
      const Prediction theirs(row(reference));
      sums.kl += kl_divergence(theirs, ours);
      sums.agreeing += theirs.argmax == ours.argmax ? 1 : 0;
    }
  }

  if (record != nullptr) {
    std::copy(states.begin(), states.end(),
              record->hidden_states.begin() + static_cast<std::ptrdiff_t>(offset));
    for (std::size_t l = 0; l < trace.routing.size(); ++l) {
      const std::vector<std::int32_t>& counts = trace.routing[l].counts;
      std::copy(counts.begin(), counts.end(), record->counts[l].begin() + job.first_row);
    }
  }
  return sums;
}

/// The source for windows whose first rows are these.
using MakeSource =
    std::function<std::unique_ptr<RoutingSource>(const std::vector<std::int64_t>& first_rows)>;

/// Runs a batch. Writes its windows' sums and returns what it loaded, (layers); nothing without a
/// group.
std::vector<LoadSums> run_batch(const Model& model, const MakeSource& make_source,
                                std::span<const Text> texts, const std::vector<Job>& jobs,
                                const Batch& batch, const EvaluationOptions& options,
                                const EvaluationRecord* baseline, EvaluationRecord* record,
                                std::vector<Sums>& sums) {
  std::vector<KvCache> caches(batch.size());
  std::vector<ForwardTrace> traces(batch.size());
  std::vector<Sequence> sequences;
  std::vector<std::int64_t> first_rows;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const Job& job = jobs[batch[i]];
    const auto ids = ids_of(texts[job.text], job.window);
    sequences.push_back({ids.first(ids.size() - 1), &caches[i], &traces[i]});
    first_rows.push_back(job.first_row);
  }
  model.forward(sequences, *make_source(first_rows), Model::LogitsOf::no_token);
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const Job& job = jobs[batch[i]];
    sums[batch[i]] = sum_window(model, traces[i], texts[job.text], job, baseline, record);
  }
  if (!options.group) return {};

  std::vector<LoadSums> loads(model.layers().size(), LoadSums(model.config().num_experts));
  for (std::size_t l = 0; l < loads.size(); ++l) {
    std::vector<const ExecutedRouting*> routings;
    for (const ForwardTrace& trace : traces) routings.push_back(&trace.routing[l]);
    loads[l].add(*options.group, routings);
  }
  return loads;
}

Evaluation evaluate_windows(const Model& model, const MakeSource& make_source,
                            std::span<const Text> texts, const std::vector<Job>& jobs,
                            const EvaluationOptions& options, const EvaluationRecord* baseline,
                            EvaluationRecord* record) {
  const Config& config = model.config();
  const auto hidden = at(config.hidden_size);
  const auto n_jobs = static_cast<std::int64_t>(jobs.size());
  if (baseline != nullptr && (baseline->nll.size() != jobs.size() ||
                              baseline->hidden_states.size() != at(scored_of(jobs)) * hidden))
    throw std::invalid_argument("evaluate: the baseline was recorded on other texts or windows");
  if (record != nullptr) {
    require_memory(sizeof(float) * static_cast<double>(scored_of(jobs)) * config.hidden_size,
                   "evaluating against a baseline");
    record->hidden_states.resize(at(scored_of(jobs)) * hidden);
    record->nll.resize(jobs.size());
    record->counts.assign(at(config.num_hidden_layers),
                          std::vector<std::int32_t>(at(rows_of(jobs))));
  }

  std::vector<Sums> sums(jobs.size(), Sums(config.num_hidden_layers, config.num_experts));
  const std::vector<Batch> batches = batches_of(jobs, options);
  std::vector<std::vector<LoadSums>> loads(batches.size());
  std::int64_t done = 0;
  if (options.on_progress) options.on_progress({0, n_jobs, {}});
  parallel_for(std::ssize(batches), [&](std::int64_t b) {
    const Batch& batch = batches[at(b)];
    const Job& first = jobs[batch.front()];
    try {
      loads[at(b)] =
          run_batch(model, make_source, texts, jobs, batch, options, baseline, record, sums);
    } catch (const Error& error) {
      throw Error(texts[first.text].name + ", window from token " +
                  std::to_string(first.window.first) +
                  (batch.size() > 1 ? " and those run with it: " : ": ") + error.what());
    }
    if (!options.on_progress) return;
#pragma omp critical(olmoe_evaluation_progress)
    {
      done += std::ssize(batch);
      EvaluationProgress progress{done, n_jobs, {}};
      for (const std::size_t j : batch) {
        progress.last.tokens += sums[j].scored;
        progress.last.sum += sums[j].nll;
      }
      options.on_progress(progress);
    }
  });

  const auto source = make_source({});
  const auto finish = [&](TextEvaluation& text, const Sums& all) {
    text.predicted_tokens = all.scored;
    text.perplexity = perplexity_of(text.nll);
    // The losses are finite, since the logits are; a mean above 709.78 is too much for exp.
    if (!std::isfinite(text.perplexity.value) || !std::isfinite(text.perplexity.error.value_or(0)))
      throw Error(text.name + ": the perplexity is too large for a number: " +
                  std::to_string(text.nll.value) + " nats per token");
    text.routing = routing_statistics(model, *source, all.routing);
    if (!text.baseline) return;
    const auto tokens = static_cast<double>(all.scored);
    text.baseline->argmax_agreement = static_cast<double>(all.agreeing) / tokens;
    text.baseline->kl = all.kl / tokens;
  };

  Evaluation result;
  if (options.group) {
    std::vector<LoadSums> sum = loads.front();
    for (std::size_t b = 1; b < loads.size(); ++b) {
      for (std::size_t l = 0; l < sum.size(); ++l) sum[l].add(loads[b][l]);
    }
    result.loads = expert_loads(model, *options.group, sum);
  }
  Sums total(config.num_hidden_layers, config.num_experts);
  std::vector<Estimate> nlls;
  std::vector<Estimate> differences;
  std::vector<Estimate> by_windows;
  std::vector<std::int64_t> tokens;
  for (std::size_t t = 0; t < texts.size(); ++t) {
    Sums all(config.num_hidden_layers, config.num_experts);
    TextEvaluation domain;
    domain.name = texts[t].name;
    std::vector<WindowSum> difference;
    domain.windows_of.assign(texts[t].all_documents().size(), 0);
    for (std::size_t j = 0; j < jobs.size(); ++j) {
      if (jobs[j].text != t) continue;
      all.add(sums[j]);
      domain.windows.push_back({sums[j].scored, sums[j].nll});
      ++domain.windows_of[jobs[j].document];
      if (record != nullptr) record->nll[j] = sums[j].nll;
      if (baseline != nullptr)
        difference.push_back({sums[j].scored, sums[j].nll - baseline->nll[j]});
    }
    const auto clusters = [&](const std::vector<WindowSum>& windows) {
      return domain.windows_of.size() > 1 ? by_document(windows, domain.windows_of) : windows;
    };
    domain.nll = cluster_mean(clusters(domain.windows));
    if (baseline != nullptr)
      domain.baseline = BaselineComparison{.nll_difference = cluster_mean(clusters(difference)),
                                           .nll_difference_by_windows = cluster_mean(difference)};
    finish(domain, all);

    total.add(all);
    nlls.push_back(domain.nll);
    if (baseline != nullptr) {
      differences.push_back(domain.baseline->nll_difference);
      by_windows.push_back(domain.baseline->nll_difference_by_windows);
    }
    tokens.push_back(domain.predicted_tokens);
    result.total.windows.insert(result.total.windows.end(), domain.windows.begin(),
                                domain.windows.end());
    result.total.windows_of.insert(result.total.windows_of.end(), domain.windows_of.begin(),
                                   domain.windows_of.end());
    result.macro_nll += domain.nll.value / static_cast<double>(texts.size());
    result.domains.push_back(std::move(domain));
  }
  result.macro_perplexity = std::exp(result.macro_nll);
  result.total.name = "total";
  result.total.nll = combine(nlls, tokens);
  if (baseline != nullptr)
    result.total.baseline =
        BaselineComparison{.nll_difference = combine(differences, tokens),
                           .nll_difference_by_windows = combine(by_windows, tokens)};
  finish(result.total, total);
  return result;
}

}  // namespace

void check_texts(const Config& config, std::span<const Text> texts,
                 const EvaluationOptions& given) {
  const EvaluationOptions options = with_defaults(config, given);
  const auto must_hold = [](bool condition, const char* option, std::int64_t highest,
                            std::int64_t value) {
    if (!condition)
      throw std::invalid_argument(std::string("the ") + option + " must lie in [1, " +
                                  std::to_string(highest) + "], got " + std::to_string(value));
  };
  must_hold(options.window >= 1 && options.window <= config.max_position_embeddings, "window",
            config.max_position_embeddings, options.window);
  must_hold(options.stride >= 1 && options.stride <= options.window, "stride", options.window,
            options.stride);
  if (texts.empty()) throw std::invalid_argument("evaluate: no texts given");
  for (const Text& text : texts) {
    for (const Document& document : text.documents) {
      if (document.tokens < 2)
        throw Error(text.name + ": document " + quote(document.name) +
                    " has one token; to predict anything it needs two");
    }
    if (text.documents.empty() && static_cast<std::int64_t>(text.ids.size()) <= options.window)
      throw Error(text.name + ": has " + std::to_string(text.ids.size()) + " tokens; a window of " +
                  std::to_string(options.window) + " needs " + std::to_string(options.window + 1));
    for (const std::int32_t id : text.ids) {
      if (id < 0 || id >= config.vocab_size)
        throw Error(text.name + ": token id " + std::to_string(id) +
                    " is outside the model's vocabulary of " + std::to_string(config.vocab_size));
    }
  }
}

Evaluation evaluate(const Model& model, std::span<const fdroute::AnyRouter> routers,
                    std::span<const Text> texts, const EvaluationOptions& given,
                    const EvaluationRecord* baseline, EvaluationRecord* record) {
  check_texts(model.config(), texts, given);
  const EvaluationOptions options = with_defaults(model.config(), given);
  if ((options.completion && !options.group) || (options.random_residents && !options.completion))
    throw std::invalid_argument(
        "evaluate: a completion needs a group, random residents need a completion");
  if (options.completion && options.oracle)
    throw std::invalid_argument("evaluate: the oracle completes nothing");
  const MakeSource make_source =
      [&](const std::vector<std::int64_t>&) -> std::unique_ptr<RoutingSource> {
    if (options.oracle) return std::make_unique<OracleRouting>(model, routers);
    if (!options.completion) return std::make_unique<PolicyRouting>(routers);
    return std::make_unique<CompletedRouting>(routers, *options.group, *options.completion,
                                              options.random_residents);
  };
  return evaluate_windows(model, make_source, texts, jobs_of(texts, options), options, baseline,
                          record);
}

RowCounts deal_counts(RowCounts counts, std::uint64_t seed) {
  Shuffle shuffle(seed);
  for (std::vector<std::int32_t>& layer : counts) shuffle(layer);
  return counts;
}

Evaluation evaluate_counts(const Model& model, const RowCounts& counts,
                           const fdroute::SoftmaxWeights& weights, std::span<const Text> texts,
                           const EvaluationOptions& given, const EvaluationRecord* baseline,
                           EvaluationRecord* record) {
  const Config& config = model.config();
  check_texts(config, texts, given);
  const EvaluationOptions options = with_defaults(config, given);
  const auto jobs = jobs_of(texts, options);
  int largest = 0;
  for (const std::vector<std::int32_t>& layer : counts) {
    if (static_cast<std::int64_t>(layer.size()) != rows_of(jobs))
      throw std::invalid_argument("evaluate_counts: " + std::to_string(layer.size()) +
                                  " counts in a layer, " + std::to_string(rows_of(jobs)) +
                                  " rows in the windows");
    for (const std::int32_t count : layer) {
      if (count < 0 || count > config.num_experts)
        throw std::invalid_argument("evaluate_counts: count " + std::to_string(count) +
                                    " is outside [0, " + std::to_string(config.num_experts) + "]");
      largest = std::max(largest, count);
    }
  }
  const auto topk = topk_routers(config.num_experts, largest, weights);
  const MakeSource make_source = [&](const std::vector<std::int64_t>& first_rows) {
    return std::make_unique<CountedRouting>(counts, first_rows, topk);
  };
  return evaluate_windows(model, make_source, texts, jobs, options, baseline, record);
}

}  // namespace olmoe

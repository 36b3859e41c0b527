#include "measure/evaluation.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <random>
#include <stdexcept>

#include "formats/error.hpp"
#include "measure/parallel.hpp"

namespace olmoe {
namespace {

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

EvaluationOptions with_defaults(const Config& config, EvaluationOptions options) {
  if (options.window == 0) options.window = default_window(config);
  if (options.stride == 0) options.stride = std::max<std::int64_t>(options.window / 2, 1);
  return options;
}

/// What one layer did on some rows; exact but for the mass.
struct LayerSums {
  explicit LayerSums(int experts) : histogram(at(experts) + 1, 0), assignments(at(experts), 0) {}

  void add(const ExecutedRouting& routing) {
    for (std::size_t row = 0; row < routing.counts.size(); ++row) {
      const std::int32_t count = routing.counts[row];
      ++histogram[at(count)];
      const std::size_t begin = row * at(routing.capacity);
      for (std::size_t i = begin; i < begin + at(count); ++i) {
        ++assignments[at(routing.experts[i])];
        mass += static_cast<double>(routing.weights[i]);
      }
    }
  }

  void add(const LayerSums& other) {
    for (std::size_t i = 0; i < histogram.size(); ++i) histogram[i] += other.histogram[i];
    for (std::size_t i = 0; i < assignments.size(); ++i) assignments[i] += other.assignments[i];
    mass += other.mass;
  }

  std::vector<std::int64_t> histogram;    // (experts + 1): rows by count
  std::vector<std::int64_t> assignments;  // (experts)
  double mass = 0.0;
};

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

/// A row of logits as log probabilities, logit - log_sum, in double.
struct Prediction {
  explicit Prediction(std::span<const float> row) : logits(row) {
    const auto largest = std::max_element(row.begin(), row.end());
    argmax = largest - row.begin();
    double sum = 0.0;
    for (const float x : row)
      sum += std::exp(static_cast<double>(x) - static_cast<double>(*largest));
    log_sum = static_cast<double>(*largest) + std::log(sum);
  }

  double log_probability(std::size_t id) const { return static_cast<double>(logits[id]) - log_sum; }

  std::span<const float> logits;
  double log_sum;
  std::ptrdiff_t argmax;
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
    const auto tokens = static_cast<std::int64_t>(texts[t].ids.size());
    for (const Window& window : sliding_windows(tokens, options.window, options.stride)) {
      jobs.push_back({t, window, row, scored});
      row += window.length;
      scored += jobs.back().scored();
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

/// Runs one window. Touches only the window's own part of `record`.
Sums run_window(const Model& model, const RoutingSource& source, const Text& text, const Job& job,
                const EvaluationRecord* baseline, EvaluationRecord* record) {
  const Config& config = model.config();
  const auto hidden = at(config.hidden_size);
  const auto vocabulary = at(config.vocab_size);
  const std::span<const std::int32_t> ids =
      std::span(text.ids).subspan(at(job.window.first), at(job.window.length) + 1);

  KvCache cache;
  ForwardTrace trace;
  model.forward(ids.first(ids.size() - 1), cache, source, Model::LogitsOf::no_token, &trace);

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

CountStatistics count_statistics(std::vector<std::int64_t> histogram, std::int64_t at_floor,
                                 std::int64_t at_ceiling) {
  CountStatistics result;
  double sum = 0.0;
  double squares = 0.0;
  for (std::size_t k = 0; k < histogram.size(); ++k) {
    if (histogram[k] == 0) continue;
    if (result.rows == 0) result.min = static_cast<int>(k);
    result.max = static_cast<int>(k);
    result.rows += histogram[k];
    const auto rows = static_cast<double>(histogram[k]);
    sum += rows * static_cast<double>(k);
    squares += rows * static_cast<double>(k) * static_cast<double>(k);
  }
  const auto rows = static_cast<double>(result.rows);
  result.mean = sum / rows;
  // Of integers, so that equal counts give a deviation of 0, not of rounding.
  result.std = std::sqrt(std::max(squares * rows - sum * sum, 0.0)) / rows;
  result.floor_rate = static_cast<double>(at_floor) / rows;
  result.ceiling_rate = static_cast<double>(at_ceiling) / rows;
  result.histogram = std::move(histogram);
  return result;
}

RoutingStatistics routing_statistics(const Model& model, const RoutingSource& source,
                                     const std::vector<LayerSums>& layers) {
  RoutingStatistics result;
  const auto n_layers = static_cast<double>(layers.size());
  std::vector<std::int64_t> histogram(layers.front().histogram.size(), 0);
  std::int64_t all_at_floor = 0;
  std::int64_t all_at_ceiling = 0;
  double mass = 0.0;
  double bytes = 0.0;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const LayerSums& sums = layers[l];
    const int layer = static_cast<int>(l);
    const std::int64_t at_floor = sums.histogram[at(source.floor(layer))];
    const std::int64_t at_ceiling = sums.histogram[at(source.capacity(layer))];

    LayerStatistics statistics;
    statistics.counts = count_statistics(sums.histogram, at_floor, at_ceiling);
    statistics.load = load_statistics(sums.assignments);
    statistics.weight_mass = sums.mass / static_cast<double>(statistics.counts.rows);
    result.load_cv += statistics.load.cv / n_layers;
    result.load_gini += statistics.load.gini / n_layers;

    for (std::size_t k = 0; k < histogram.size(); ++k) histogram[k] += sums.histogram[k];
    all_at_floor += at_floor;
    all_at_ceiling += at_ceiling;
    mass += sums.mass;
    for (std::size_t e = 0; e < sums.assignments.size(); ++e) {
      const ExpertWeights& expert = model.layers()[l].moe.experts[e];
      bytes += static_cast<double>(sums.assignments[e]) *
               static_cast<double>(expert.gate.bytes() + expert.up.bytes() + expert.down.bytes());
    }
    result.layers.push_back(std::move(statistics));
  }
  result.counts = count_statistics(std::move(histogram), all_at_floor, all_at_ceiling);
  result.weight_mass = mass / static_cast<double>(result.counts.rows);
  result.expert_bytes_per_token = bytes / static_cast<double>(result.layers.front().counts.rows);
  return result;
}

/// The mean over all tokens from estimates of disjoint parts, independent of each other.
Estimate combine(std::span<const Estimate> parts, std::span<const std::int64_t> tokens) {
  double all = 0.0;
  for (const std::int64_t n : tokens) all += static_cast<double>(n);
  Estimate result;
  double variance = 0.0;
  bool known = true;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const double share = static_cast<double>(tokens[i]) / all;
    result.value += share * parts[i].value;
    known = known && parts[i].error.has_value();
    if (known) variance += share * share * *parts[i].error * *parts[i].error;
  }
  if (known) result.error = std::sqrt(variance);
  return result;
}

using MakeSource = std::function<std::unique_ptr<RoutingSource>(std::int64_t first_row)>;

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
    record->hidden_states.resize(at(scored_of(jobs)) * hidden);
    record->nll.resize(jobs.size());
    record->counts.assign(at(config.num_hidden_layers),
                          std::vector<std::int32_t>(at(rows_of(jobs))));
  }

  std::vector<Sums> sums(jobs.size(), Sums(config.num_hidden_layers, config.num_experts));
  std::int64_t done = 0;
  parallel_for(n_jobs, [&](std::int64_t j) {
    const Job& job = jobs[at(j)];
    try {
      sums[at(j)] =
          run_window(model, *make_source(job.first_row), texts[job.text], job, baseline, record);
    } catch (const Error& error) {
      throw Error(texts[job.text].name + ", window from token " + std::to_string(job.window.first) +
                  ": " + error.what());
    }
    if (!options.on_progress) return;
#pragma omp critical(olmoe_evaluation_progress)
    options.on_progress(++done, n_jobs);
  });

  const auto source = make_source(0);
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
  Sums total(config.num_hidden_layers, config.num_experts);
  std::vector<Estimate> nlls;
  std::vector<Estimate> differences;
  std::vector<std::int64_t> tokens;
  for (std::size_t t = 0; t < texts.size(); ++t) {
    Sums all(config.num_hidden_layers, config.num_experts);
    TextEvaluation domain;
    domain.name = texts[t].name;
    std::vector<WindowSum> difference;
    for (std::size_t j = 0; j < jobs.size(); ++j) {
      if (jobs[j].text != t) continue;
      all.add(sums[j]);
      domain.windows.push_back({sums[j].scored, sums[j].nll});
      if (record != nullptr) record->nll[j] = sums[j].nll;
      if (baseline != nullptr)
        difference.push_back({sums[j].scored, sums[j].nll - baseline->nll[j]});
    }
    domain.nll = cluster_mean(domain.windows);
    if (baseline != nullptr)
      domain.baseline = BaselineComparison{.nll_difference = cluster_mean(difference)};
    finish(domain, all);

    total.add(all);
    nlls.push_back(domain.nll);
    if (baseline != nullptr) differences.push_back(domain.baseline->nll_difference);
    tokens.push_back(domain.predicted_tokens);
    result.total.windows.insert(result.total.windows.end(), domain.windows.begin(),
                                domain.windows.end());
    result.macro_nll += domain.nll.value / static_cast<double>(texts.size());
    result.domains.push_back(std::move(domain));
  }
  result.macro_perplexity = std::exp(result.macro_nll);
  result.total.name = "total";
  result.total.nll = combine(nlls, tokens);
  if (baseline != nullptr)
    result.total.baseline = BaselineComparison{.nll_difference = combine(differences, tokens)};
  finish(result.total, total);
  return result;
}

}  // namespace

std::vector<Window> sliding_windows(std::int64_t tokens, std::int64_t window, std::int64_t stride) {
  if (window < 1 || stride < 1 || stride > window || window >= tokens)
    throw std::invalid_argument("sliding_windows: 1 <= stride <= window < tokens must hold, got " +
                                std::to_string(stride) + ", " + std::to_string(window) + ", " +
                                std::to_string(tokens));
  const std::int64_t last = tokens - 1 - window;  // where the last window begins
  std::vector<Window> windows;
  std::int64_t scored = 0;  // inputs whose next token has been predicted
  for (std::int64_t first = 0; scored < tokens - 1; first += stride) {
    first = std::min(first, last);
    windows.push_back({first, window, scored - first});
    scored = first + window;
  }
  return windows;
}

std::int64_t default_window(const Config& config) {
  return std::min(config.max_position_embeddings, 1024);
}

void check_texts(const Config& config, std::span<const Text> texts,
                 const EvaluationOptions& given) {
  const EvaluationOptions options = with_defaults(config, given);
  const auto must_hold = [](bool condition, const char* option, std::int64_t highest,
                            std::int64_t value) {
    if (!condition)
      throw std::invalid_argument(std::string("evaluate: ") + option + " must lie in [1, " +
                                  std::to_string(highest) + "], got " + std::to_string(value));
  };
  must_hold(options.window >= 1 && options.window <= config.max_position_embeddings, "window",
            config.max_position_embeddings, options.window);
  must_hold(options.stride >= 1 && options.stride <= options.window, "stride", options.window,
            options.stride);
  if (texts.empty()) throw std::invalid_argument("evaluate: no texts given");
  for (const Text& text : texts) {
    if (static_cast<std::int64_t>(text.ids.size()) <= options.window)
      throw Error(text.name + ": has " + std::to_string(text.ids.size()) + " tokens; a window of " +
                  std::to_string(options.window) + " needs " + std::to_string(options.window + 1));
    for (const std::int32_t id : text.ids) {
      if (id < 0 || id >= config.vocab_size)
        throw Error(text.name + ": token id " + std::to_string(id) +
                    " is outside the model's vocabulary of " + std::to_string(config.vocab_size));
    }
  }
}

Estimate cluster_mean(std::span<const WindowSum> windows) {
  double tokens = 0.0;
  double sum = 0.0;
  for (const WindowSum& window : windows) {
    tokens += static_cast<double>(window.tokens);
    sum += window.sum;
  }
  Estimate result{.value = sum / tokens, .error = std::nullopt};
  if (windows.size() < 2) return result;
  double squares = 0.0;
  for (const WindowSum& window : windows) {
    const double deviation = window.sum - result.value * static_cast<double>(window.tokens);
    squares += deviation * deviation;
  }
  const auto n = static_cast<double>(windows.size());
  result.error = std::sqrt(n / (n - 1.0) * squares) / tokens;
  return result;
}

Estimate perplexity_of(const Estimate& nll) {
  Estimate result{.value = std::exp(nll.value), .error = std::nullopt};
  if (nll.error) result.error = result.value * *nll.error;
  return result;
}

LoadStatistics load_statistics(std::span<const std::int64_t> assignments) {
  LoadStatistics result;
  double sum = 0.0;
  for (const std::int64_t count : assignments) sum += static_cast<double>(count);
  result.share.assign(assignments.size(), 0.0);
  if (sum == 0.0) return result;

  const auto n = static_cast<double>(assignments.size());
  double squares = 0.0;
  for (std::size_t e = 0; e < assignments.size(); ++e) {
    result.share[e] = static_cast<double>(assignments[e]) / sum;
    const double deviation = static_cast<double>(assignments[e]) - sum / n;
    squares += deviation * deviation;
  }
  result.cv = std::sqrt(squares / n) / (sum / n);

  std::vector<std::int64_t> ascending(assignments.begin(), assignments.end());
  std::sort(ascending.begin(), ascending.end());
  double weighted = 0.0;
  for (std::size_t i = 0; i < ascending.size(); ++i)
    weighted += (2.0 * static_cast<double>(i) + 1.0 - n) * static_cast<double>(ascending[i]);
  result.gini = weighted / (n * sum);
  return result;
}

Evaluation evaluate(const Model& model, std::span<const fdroute::AnyRouter> routers,
                    std::span<const Text> texts, const EvaluationOptions& given,
                    const EvaluationRecord* baseline, EvaluationRecord* record) {
  check_texts(model.config(), texts, given);
  const EvaluationOptions options = with_defaults(model.config(), given);
  const MakeSource make_source = [&](std::int64_t) {
    return std::make_unique<PolicyRouting>(routers);
  };
  return evaluate_windows(model, make_source, texts, jobs_of(texts, options), options, baseline,
                          record);
}

RowCounts deal_counts(RowCounts counts, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  for (std::vector<std::int32_t>& layer : counts) {
    // Written out, since the standard's shuffle differs between libraries. The remainder's bias is
    // below rows / 2^64.
    for (std::size_t left = layer.size(); left > 1; --left)
      std::swap(layer[left - 1], layer[static_cast<std::size_t>(random() % left)]);
  }
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
  const MakeSource make_source = [&](std::int64_t first_row) {
    return std::make_unique<CountedRouting>(counts, first_row, topk);
  };
  return evaluate_windows(model, make_source, texts, jobs, options, baseline, record);
}

}  // namespace olmoe

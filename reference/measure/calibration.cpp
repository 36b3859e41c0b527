#include "measure/calibration.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <fdroute/openmp.hpp>
#include <fdroute/score/log_softmax.hpp>
#include <fdroute/score/logit.hpp>
#include <fdroute/score/zscore.hpp>
#include <numbers>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "formats/error.hpp"
#include "formats/safetensors.hpp"
#include "formats/safetensors_writer.hpp"
#include "formats/sha256.hpp"
#include "measure/parallel.hpp"
#include "routing/routing.hpp"

namespace olmoe {
namespace {

constexpr std::size_t max_points = 1024;

std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

/// A window to record, and where its rows go.
struct Piece {
  const Text& text;
  std::int64_t first_token;
  std::span<const std::int32_t> ids;
  bool held_out;
  std::int64_t first_row;
};

template <class Scorer>
std::vector<float> losing_scores_by(const Scorer& scorer, const LayerLogits& logits, int trim) {
  const std::size_t experts = at(logits.experts);
  const std::size_t kept = experts - at(trim);
  std::vector<float> losing;
  losing.reserve(at(logits.tokens()) * kept);
  std::vector<float> row(experts);
  for (std::int64_t token = 0; token < logits.tokens(); ++token) {
    const auto of_token = std::span(logits.values).subspan(at(token) * experts, experts);
    const fdroute::ScoreMap score = scorer(of_token);
    std::transform(of_token.begin(), of_token.end(), row.begin(), score);
    for (const float s : row) {
      if (!std::isfinite(s))
        throw Error("token " + std::to_string(token) + " has a router score that is not finite");
    }
    const auto end = row.begin() + static_cast<std::ptrdiff_t>(kept);
    if (trim > 0) std::nth_element(row.begin(), end, row.end());
    losing.insert(losing.end(), row.begin(), end);
  }
  return losing;
}

/// A curve to follow with line segments, and how far off they may be: log survival between `low`
/// and `high` at each `score`.
struct Band {
  std::vector<double> score;
  std::vector<double> low;
  std::vector<double> high;

  /// Survival between `least` and `most` with the tolerance of each.
  void add(double x, double least, double most, double absolute, double relative) {
    score.push_back(x);
    low.push_back(std::log(most - std::min(absolute, relative * most)));
    high.push_back(std::min(std::log(least + std::min(absolute, relative * least)), 0.0));
  }
};

/// The fewest line segments that a greedy walk needs to stay within the band: from where a segment
/// starts, the slopes that keep within the band narrow with every point; the last point that leaves
/// one ends it. Both sides of the band are used, which takes about 0.7 of the points that a
/// polyline through the curve would.
void follow(const Band& band, NullTable& table) {
  const std::size_t n = band.score.size();
  std::size_t start = 0;
  double value = (band.low[0] + band.high[0]) / 2.0;
  table.score = {band.score[0]};
  table.log_sf = {value};
  while (start + 1 < n) {
    double least = -std::numeric_limits<double>::infinity();
    double most = 0.0;
    double slope = 0.0;
    std::size_t end = start;
    for (std::size_t i = start + 1; i < n; ++i) {
      const double dx = band.score[i] - band.score[start];
      least = std::max(least, (band.low[i] - value) / dx);
      most = std::min(most, (band.high[i] - value) / dx);
      if (least > most) break;
      slope = (least + most) / 2.0;
      end = i;
    }
    if (end == start)
      throw Error("too many scores are equal to " + std::to_string(band.score[start + 1]) +
                  " for a table to follow their distribution; method kde smooths over it");
    value += slope * (band.score[end] - band.score[start]);
    table.score.push_back(band.score[end]);
    table.log_sf.push_back(value);
    start = end;
  }
}

/// Largest difference between the table's p and the curve's, below the tail.
double largest_error(const fdroute::TabulatedNull& null, std::span<const double> score,
                     std::span<const double> survival) {
  double largest = 0.0;
  for (std::size_t i = 0; i < score.size(); ++i)
    largest = std::max(largest, std::abs(null(score[i]) - survival[i]));
  return largest;
}

double bandwidth_of(std::span<const double> sorted) {
  const auto n = static_cast<double>(sorted.size());
  const double mean = std::accumulate(sorted.begin(), sorted.end(), 0.0) / n;
  double squares = 0.0;
  for (const double x : sorted) squares += (x - mean) * (x - mean);
  const double sd = std::sqrt(squares / n);
  const double iqr = sorted[sorted.size() * 3 / 4] - sorted[sorted.size() / 4];
  const double spread = iqr > 0.0 ? std::min(sd, iqr / 1.34) : sd;
  return 0.9 * spread * std::pow(n, -0.2);
}

/// Survival of a Gaussian kernel estimate at `score`, a lattice of 256 points to the bandwidth
/// that ends at the tail.
struct KernelEstimate {
  std::vector<double> score;
  std::vector<double> survival;
};

/// The sample is moved to the lattice, each score shared by its two neighbours so that its mean
/// stays; then all kernel values are from one table. This interpolates the kernel's CDF linearly,
/// which moves the estimate by at most max|Phi''| / (8 x 256^2) < 5e-7, and by some 1e-9 in
/// practice.
KernelEstimate kernel_estimate(std::span<const double> sorted, double bandwidth, double end) {
  constexpr std::int64_t per_bandwidth = 256;
  constexpr std::int64_t reach = 7 * per_bandwidth;  // the normal tail beyond 7 is 1.3e-12
  const double step = bandwidth / static_cast<double>(per_bandwidth);
  const double first = sorted.front() - 7.0 * bandwidth;
  const auto last = static_cast<std::int64_t>(std::ceil((end - first) / step));
  const auto places = last + static_cast<std::int64_t>((sorted.back() - end) / step) + 2;
  constexpr std::int64_t limit = std::int64_t{1} << 24;
  if (places > limit)
    throw Error("scores range over " +
                std::to_string((sorted.back() - sorted.front()) / bandwidth) +
                " bandwidths; there are outliers too far for a kernel estimate");
  const auto lattice = [&](std::int64_t i) { return end + static_cast<double>(i - last) * step; };

  std::vector<double> mass(at(places), 0.0);
  const double unit = 1.0 / static_cast<double>(sorted.size());
  for (const double x : sorted) {
    const double position = (x - lattice(0)) / step;
    const auto below = static_cast<std::int64_t>(position);
    const double share = position - static_cast<double>(below);
    mass[at(below)] += unit * (1.0 - share);
    mass[at(below) + 1] += unit * share;
  }

  std::vector<double> kernel;  // survival at distance -reach ... reach
  for (std::int64_t d = -reach; d <= reach; ++d) {
    const double z = static_cast<double>(d) / static_cast<double>(per_bandwidth);
    kernel.push_back(0.5 * std::erfc(z / std::numbers::sqrt2));
  }
  // What lies more than `reach` above a point counts in full.
  KernelEstimate estimate;
  estimate.survival.assign(at(last) + 1, 0.0);
  double above = 0.0;
  for (std::int64_t i = places - 1; i >= 0; --i) {
    if (i + reach + 1 < places) above += mass[at(i + reach + 1)];
    if (i <= last) estimate.survival[at(i)] = above;
  }
  for (std::int64_t j = 0; j < places; ++j) {
    const double weight = mass[at(j)];
    if (weight == 0.0) continue;
    const std::int64_t from = std::max<std::int64_t>(j - reach, 0);
    const std::int64_t to = std::min(j + reach, last);
    const double* value = kernel.data() + (from - j + reach);
    for (std::int64_t i = from; i <= to; ++i) estimate.survival[at(i)] += weight * *value++;
  }
  for (std::int64_t i = 0; i <= last; ++i) {
    estimate.score.push_back(lattice(i));
    estimate.survival[at(i)] = std::min(estimate.survival[at(i)], 1.0);
  }
  return estimate;
}

/// Number of the sample's largest scores that make the tail.
std::size_t tail_size(std::size_t n) {
  if (n < 1000) return n / 10;
  return std::max<std::size_t>(100, n / 10'000);
}

fdroute::TabulatedNull as_null(const NullTable& table, fdroute::NullProvenance provenance) {
  return fdroute::TabulatedNull::from_log_survival(table.score, table.log_sf,
                                                   std::move(provenance));
}

/// Mean count by a router on recorded logits; the routing weights are computed and dropped.
double mean_count(const fdroute::AnyRouter& router, const LayerLogits& logits) {
  const std::size_t tokens = at(logits.tokens());
  std::vector<std::int32_t> experts(tokens * at(router.capacity()));
  std::vector<float> weights(experts.size());
  std::vector<std::int32_t> counts(tokens);
  router.route(fdroute::OpenMP{},
               fdroute::LogitsView<float>(logits.values.data(), logits.tokens(), logits.experts),
               fdroute::RoutingView<std::int32_t>{experts.data(), weights.data(), counts.data(),
                                                  router.capacity()});
  return static_cast<double>(std::accumulate(counts.begin(), counts.end(), std::int64_t{0})) /
         static_cast<double>(tokens);
}

/// `value` as it stands in a policy string.
std::string value_text(double value) {
  std::array<char, 32> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 std::chars_format::general, 9)
                       .ptr;
  return {buffer.data(), end};
}

/// The place of the open parameter's value.
std::size_t open_place(const std::string& policy) {
  const std::size_t place = policy.find('?');
  if (place == std::string::npos || place == 0 || policy[place - 1] != '=' ||
      policy.find('?', place + 1) != std::string::npos)
    throw std::invalid_argument("policy " + quote(policy) +
                                ": one value, and only one, must be '?', as in bh:alpha=?");
  return place;
}

std::string with_value(const std::string& policy, const std::string& value) {
  std::string text = policy;
  return text.replace(open_place(policy), 1, value);
}

/// The value, as text, for which mean(value text) is `target`. `mean` must be monotone.
template <class Mean>
std::string solve(const Mean& mean, double target, const std::string& what) {
  const auto value = [](double log_odds) { return value_text(1.0 / (1.0 + std::exp(-log_odds))); };
  // The log odds at an end of the search, and the mean there. Some values cannot be so near 0 or 1.
  const auto end_near = [&](double log_odds) {
    while (true) {
      try {
        return std::pair(log_odds, mean(value(log_odds)));
      } catch (const std::invalid_argument&) {
        if (std::abs(log_odds) < 0.1) throw;
        log_odds /= 2.0;
      }
    }
  };
  // alpha may have to be 1e-40, top-p's p 0.9999.
  auto [low, at_low] = end_near(-690.0);
  auto [high, at_high] = end_near(20.0);
  const bool increasing = at_low < at_high;
  if (target < std::min(at_low, at_high) || target > std::max(at_low, at_high))
    throw Unreachable(what + " gives means from " + std::to_string(std::min(at_low, at_high)) +
                      " to " + std::to_string(std::max(at_low, at_high)) + " experts, not " +
                      std::to_string(target));
  constexpr double close_enough = 5e-4;
  while (true) {
    const double middle = low + (high - low) / 2.0;
    const std::string text = value(middle);
    const double reached = mean(text);
    // Neighbouring values have the same text well before the interval is empty.
    if (std::abs(reached - target) <= close_enough || high - low < 1e-9) return text;
    ((reached < target) == increasing ? low : high) = middle;
  }
}

}  // namespace

std::string_view name(NullMethod method) {
  return method == NullMethod::kde ? "kde" : "ecdf";
}

RecordedLogits record_logits(const Model& model, std::span<const fdroute::AnyRouter> routers,
                             std::span<const Text> texts, const RecordingOptions& options) {
  const Config& config = model.config();
  const std::int64_t window = options.window == 0 ? default_window(config) : options.window;
  if (window < 1 || window > config.max_position_embeddings)
    throw std::invalid_argument("record_logits: window must lie in [1, " +
                                std::to_string(config.max_position_embeddings) + "], got " +
                                std::to_string(window));
  if (options.skip_first < 0 || options.skip_first >= window)
    throw std::invalid_argument("record_logits: skip_first must lie in [0, window), got " +
                                std::to_string(options.skip_first));
  if (!(options.held_out_share >= 0.0 && options.held_out_share < 1.0))
    throw std::invalid_argument("record_logits: held_out_share must lie in [0, 1), got " +
                                std::to_string(options.held_out_share));

  std::vector<Piece> pieces;
  std::array<std::int64_t, 2> rows{};  // fit, held out
  for (const Text& text : texts) {
    const auto tokens = static_cast<std::int64_t>(text.ids.size());
    const std::int64_t windows = (tokens + window - 1) / window;
    const auto held_out =
        static_cast<std::int64_t>(std::ceil(options.held_out_share * static_cast<double>(windows)));
    if (tokens == 0) throw Error(text.name + ": has no tokens");
    if (held_out == windows)
      throw Error(text.name + ": is too short to hold a window of " + std::to_string(window) +
                  " tokens out: it has " + std::to_string(tokens));
    for (std::int64_t w = 0; w < windows; ++w) {
      const std::int64_t length = std::min(window, tokens - w * window);
      std::int64_t& next = rows[w >= windows - held_out ? 1 : 0];
      pieces.push_back({text, w * window, std::span(text.ids).subspan(at(w * window), at(length)),
                        w >= windows - held_out, next});
      next += std::max<std::int64_t>(length - options.skip_first, 0);
    }
  }

  const auto empty = [&](std::int64_t n) {
    LayerLogits layer{.values = std::vector<float>(at(n * config.num_experts)),
                      .counts = std::vector<std::int32_t>(at(n)),
                      .experts = config.num_experts};
    return RouterLogits(at(config.num_hidden_layers), layer);
  };
  RecordedLogits recorded{empty(rows[0]), empty(rows[1])};
  parallel_for(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t p) {
    const Piece& piece = pieces[at(p)];
    if (static_cast<std::int64_t>(piece.ids.size()) <= options.skip_first) return;
    KvCache cache;
    ForwardTrace trace;
    try {
      model.forward(piece.ids, cache, routers, Model::LogitsOf::no_token, &trace);
    } catch (const Error& error) {
      throw Error(piece.text.name + ", window from token " + std::to_string(piece.first_token) +
                  ": " + error.what());
    }
    RouterLogits& to = piece.held_out ? recorded.held_out : recorded.fit;
    for (std::size_t l = 0; l < trace.routing.size(); ++l) {
      const ExecutedRouting& from = trace.routing[l];
      std::copy(from.logits.begin() + options.skip_first * config.num_experts, from.logits.end(),
                to[l].values.begin() + piece.first_row * config.num_experts);
      std::copy(from.counts.begin() + options.skip_first, from.counts.end(),
                to[l].counts.begin() + piece.first_row);
    }
  });
  return recorded;
}

std::vector<float> losing_scores(const LayerLogits& logits, std::string_view score, int trim) {
  if (trim < 0 || trim >= logits.experts)
    throw std::invalid_argument("losing_scores: trim must lie in [0, " +
                                std::to_string(logits.experts) + "), got " + std::to_string(trim));
  if (score == fdroute::Logit::name) return losing_scores_by(fdroute::Logit{}, logits, trim);
  if (score == fdroute::LogSoftmax::name)
    return losing_scores_by(fdroute::LogSoftmax{}, logits, trim);
  if (score == fdroute::ZScore::name) return losing_scores_by(fdroute::ZScore{}, logits, trim);
  throw std::invalid_argument("losing_scores: unknown score " + quote(score) +
                              "; accepted are logit, log_softmax, zscore");
}

NullTable fit_null(std::vector<float> sample, NullMethod method) {
  constexpr std::size_t least = 100;
  if (sample.size() < least)
    throw Error(std::to_string(sample.size()) + " scores are too few to fit a null distribution; " +
                std::to_string(least) + " are needed");
  std::sort(sample.begin(), sample.end());
  const std::vector<double> sorted(sample.begin(), sample.end());
  const std::size_t n = sorted.size();
  if (sorted.front() == sorted.back())
    throw Error("all scores equal " + std::to_string(sorted.front()));

  NullTable table;
  table.samples = static_cast<std::int64_t>(n);
  const std::size_t tail = tail_size(n);
  table.tail_from = sorted[n - tail - 1];
  double excess = 0.0;
  for (std::size_t i = n - tail; i < n; ++i) excess += sorted[i] - table.tail_from;
  table.tail_mean = excess / static_cast<double>(tail);
  if (!(table.tail_mean > 0.0))
    throw Error("the largest " + std::to_string(tail + 1) +
                " scores are all equal: there is no tail to fit");

  Band band;
  std::vector<double> score;
  std::vector<double> survival;
  double tolerance = 1e-6;
  if (method == NullMethod::kde) {
    table.bandwidth = bandwidth_of(sorted);
    const KernelEstimate estimate = kernel_estimate(sorted, table.bandwidth, table.tail_from);
    // A tenth of the tolerance is kept for what happens between the points of the lattice.
    for (std::size_t i = 0; i < estimate.score.size(); ++i)
      band.add(estimate.score[i], estimate.survival[i], estimate.survival[i], 0.9 * tolerance,
               1e-3);
    score = estimate.score;
    survival = estimate.survival;
  } else {
    tolerance = 0.5 / std::sqrt(static_cast<double>(n));
    const auto share = [&](std::size_t above) {
      return static_cast<double>(above) / static_cast<double>(n);
    };
    for (std::size_t i = 0; i + tail < n;) {
      std::size_t next = i;
      while (next < n && sorted[next] == sorted[i]) ++next;
      band.add(sorted[i], share(n - next), share(n - i), tolerance, 0.1);
      for (const std::size_t below : {i, next}) {
        score.push_back(sorted[i]);
        survival.push_back(share(n - below));
      }
      i = next;
    }
  }
  follow(band, table);
  table.score.push_back(table.tail_from + table.tail_mean);
  table.log_sf.push_back(table.log_sf.back() - 1.0);

  if (table.score.size() > max_points)
    throw Error("a table of the scores' distribution takes " + std::to_string(table.score.size()) +
                " points, more than " + std::to_string(max_points));
  table.cdf_error = largest_error(as_null(table, {"any", "", 0, 0, 0}), score, survival);
  if (!(table.cdf_error < tolerance * (1.0 + 1e-9)))
    throw Error("the table is off the fitted distribution by " + std::to_string(table.cdf_error));
  return table;
}

Uniformity uniformity(const fdroute::TabulatedNull& null, std::span<const float> scores) {
  std::vector<double> p;
  p.reserve(scores.size());
  for (const float s : scores) p.push_back(null(static_cast<double>(s)));
  std::sort(p.begin(), p.end());
  Uniformity result;
  result.samples = static_cast<std::int64_t>(p.size());
  const auto n = static_cast<double>(p.size());
  for (std::size_t i = 0; i < p.size(); ++i) {
    const auto before = static_cast<double>(i);
    result.ks = std::max({result.ks, p[i] - before / n, (before + 1.0) / n - p[i]});
  }
  const auto above = std::upper_bound(p.begin(), p.end(), 0.05);
  result.below_0_05 = static_cast<double>(above - p.begin()) / n;
  return result;
}

std::vector<fdroute::TabulatedNull> FittedNulls::nulls() const {
  std::vector<fdroute::TabulatedNull> result;
  for (const NullTable& table : layers)
    result.push_back(as_null(table, {.score = options.score,
                                     .model = model,
                                     .layer = static_cast<int>(result.size()),
                                     .trim = options.trim,
                                     .tokens = tokens}));
  return result;
}

FittedNulls fit_nulls(const RouterLogits& logits, const NullOptions& options, std::string model) {
  FittedNulls fitted{options, std::move(model), logits.front().tokens(), {}};
  fitted.layers.resize(logits.size());
  parallel_for(static_cast<std::int64_t>(logits.size()), [&](std::int64_t l) {
    try {
      fitted.layers[at(l)] =
          fit_null(losing_scores(logits[at(l)], options.score, options.trim), options.method);
    } catch (const Error& error) {
      throw Error("layer " + std::to_string(l) + ": " + error.what());
    }
  });
  return fitted;
}

std::string router_sha256(const Model& model) {
  std::vector<std::byte> bytes;
  for (const DecoderLayer& layer : model.layers()) {
    const Matrix& router = layer.moe.router;
    bytes.insert(bytes.end(), router.data, router.data + router.bytes());
  }
  return sha256(bytes);
}

void check_nulls_model(const std::filesystem::path& nulls, const Model& model) {
  const SafetensorsFile file(nulls);
  const auto found = file.metadata().find("router_sha256");
  if (found == file.metadata().end() || found->second == router_sha256(model)) return;
  const auto fitted_on = file.metadata().find("model");
  throw Error(nulls.string() + ": was fitted on another model" +
              (fitted_on == file.metadata().end() ? "" : ", " + quote(fitted_on->second)) +
              ": its routers differ from this one's");
}

void save_nulls(const std::filesystem::path& path, const FittedNulls& nulls, const Model& model,
                const std::map<std::string, std::string>& provenance) {
  std::vector<NamedTensor> tensors;
  for (std::size_t l = 0; l < nulls.layers.size(); ++l) {
    const NullTable& table = nulls.layers[l];
    const std::string prefix = "layer." + std::to_string(l) + ".";
    const Shape shape{static_cast<std::int64_t>(table.score.size())};
    tensors.push_back(NamedTensor::of(prefix + "score", shape, table.score));
    tensors.push_back(NamedTensor::of(prefix + "log_sf", shape, table.log_sf));
  }
  std::map<std::string, std::string> metadata = provenance;
  metadata["score"] = nulls.options.score;
  metadata["trim"] = std::to_string(nulls.options.trim);
  metadata["model"] = nulls.model;
  metadata["router_sha256"] = router_sha256(model);
  metadata["tokens"] = std::to_string(nulls.tokens);
  metadata["method"] = name(nulls.options.method);
  metadata["bandwidth"] =
      nulls.options.method == NullMethod::kde ? "0.9 min(sd, IQR / 1.34) n^(-1/5)" : "none";
  write_safetensors(path, tensors, metadata);
}

void check_target(const Config& config, const Target& target, std::string_view score) {
  const std::vector<fdroute::TabulatedNull> any(
      at(config.num_hidden_layers),
      as_null({.score = {0.0, 1.0}, .log_sf = {-1.0, -2.0}}, {std::string(score), "", 0, 0, 0}));
  for (const fdroute::AnyRouter& router :
       make_routers(config, with_value(target.policy, "0.5"), any)) {
    const int min_k = router.bounds().min_k;
    if (target.mean_experts < min_k || target.mean_experts > router.capacity())
      throw std::invalid_argument(
          "policy " + quote(target.policy) + " has bounds from " + std::to_string(min_k) + " to " +
          std::to_string(router.capacity()) + " experts, which exclude a mean of " +
          std::to_string(target.mean_experts));
  }
}

SolvedPolicy solve_policy(const Model& model, const Target& target,
                          std::span<const fdroute::TabulatedNull> nulls,
                          std::span<const Text> texts, const RecordingOptions& options) {
  const Config& config = model.config();
  const auto routers_of = [&](const std::string& value) {
    return make_routers(config, with_value(target.policy, value), nulls);
  };
  routers_of("0.5");  // a policy that does not parse is found out before the work begins

  constexpr double tolerance = 0.01;
  constexpr int max_runs = 12;
  const auto layers = at(config.num_hidden_layers);
  RouterLogits logits =
      record_logits(model, make_routers(config, native_policy, nulls), texts, options).fit;
  for (int runs = 2; runs <= max_runs; ++runs) {
    std::string value;
    if (target.per_layer) {
      for (std::size_t l = 0; l < layers; ++l) {
        const auto mean = [&](const std::string& v) {
          return mean_count(routers_of(v)[l], logits[l]);
        };
        value += (l == 0 ? "" : "/") +
                 solve(mean, target.mean_experts,
                       "policy " + quote(target.policy) + ", layer " + std::to_string(l));
      }
    } else {
      const auto mean = [&](const std::string& v) {
        const auto routers = routers_of(v);
        double sum = 0.0;
        for (std::size_t l = 0; l < layers; ++l) sum += mean_count(routers[l], logits[l]);
        return sum / static_cast<double>(layers);
      };
      value = solve(mean, target.mean_experts, "policy " + quote(target.policy));
    }

    logits = record_logits(model, routers_of(value), texts, options).fit;
    SolvedPolicy solved{.policy = with_value(target.policy, value),
                        .mean_experts = 0.0,
                        .layer_mean_experts = {},
                        .runs = runs};
    double worst = 0.0;
    for (const LayerLogits& layer : logits) {
      const double mean = static_cast<double>(std::accumulate(
                              layer.counts.begin(), layer.counts.end(), std::int64_t{0})) /
                          static_cast<double>(layer.tokens());
      solved.layer_mean_experts.push_back(mean);
      solved.mean_experts += mean / static_cast<double>(layers);
      worst = std::max(worst, std::abs(mean - target.mean_experts));
    }
    if (!target.per_layer) worst = std::abs(solved.mean_experts - target.mean_experts);
    if (worst <= tolerance) return solved;
  }
  throw Unreachable("policy " + quote(target.policy) + " did not settle at a mean of " +
                    std::to_string(target.mean_experts) + " experts in " +
                    std::to_string(max_runs) + " runs");
}

}  // namespace olmoe

#include "measure/null_fit.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <fdroute/score/log_softmax.hpp>
#include <fdroute/score/logit.hpp>
#include <fdroute/score/robust_zscore.hpp>
#include <fdroute/score/zscore.hpp>
#include <stdexcept>
#include <utility>

#include "formats/error.hpp"
#include "formats/safetensors.hpp"
#include "formats/safetensors_writer.hpp"
#include "measure/at.hpp"
#include "measure/parallel.hpp"
#include "routing/nulls_model.hpp"

namespace olmoe {
namespace {

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

}  // namespace

std::vector<float> losing_scores(const LayerLogits& logits, std::string_view score, int trim) {
  if (trim < 0 || trim >= logits.experts)
    throw std::invalid_argument("losing_scores: trim must lie in [0, " +
                                std::to_string(logits.experts) + "), got " + std::to_string(trim));
  if (score == fdroute::Logit::name) return losing_scores_by(fdroute::Logit{}, logits, trim);
  if (score == fdroute::LogSoftmax::name)
    return losing_scores_by(fdroute::LogSoftmax{}, logits, trim);
  if (score == fdroute::ZScore::name) return losing_scores_by(fdroute::ZScore{}, logits, trim);
  if (score == fdroute::RobustZScore::name)
    return losing_scores_by(fdroute::RobustZScore{}, logits, trim);
  throw std::invalid_argument("losing_scores: unknown score " + quote(score) +
                              "; accepted are logit, log_softmax, zscore, robust_zscore");
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

}  // namespace olmoe

#include "routing/nulls.hpp"

#include <charconv>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include "formats/error.hpp"
#include "formats/safetensors.hpp"

namespace olmoe {
namespace {

std::string text_or(const SafetensorsFile& file, const std::string& key,
                    const std::string& otherwise) {
  const auto found = file.metadata().find(key);
  return found == file.metadata().end() ? otherwise : found->second;
}

template <class Integer>
Integer integer_or_zero(const SafetensorsFile& file, const std::string& key) {
  const std::string text = text_or(file, key, "0");
  Integer value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || stop != text.data() + text.size() || value < 0)
    throw Error(file.path().string() + ": metadata " + quote(key) +
                " is not a count: " + quote(text));
  return value;
}

std::vector<double> column(const SafetensorsFile& file, const std::string& name) {
  const Tensor& tensor = file.at(name);
  if (tensor.shape.size() != 1)
    throw Error(tensor.origin + " has shape " + to_string(tensor.shape) + "; one axis is expected");
  return tensor.to_double();
}

}  // namespace

std::vector<fdroute::TabulatedNull> load_nulls(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  const bool cdf_form = file.contains("layer.0.cdf");
  fdroute::NullProvenance provenance{
      .score = text_or(file, "score", cdf_form ? "logit" : ""),
      .model = text_or(file, "model", ""),
      .trim = integer_or_zero<int>(file, "trim"),
      .tokens = integer_or_zero<std::int64_t>(file, "tokens"),
  };
  if (provenance.score.empty())
    throw Error(path.string() + ": metadata does not say which 'score' the tables were fitted on");

  const std::string x = cdf_form ? "x" : "score";
  const std::string y = cdf_form ? "cdf" : "log_sf";
  std::vector<fdroute::TabulatedNull> nulls;
  for (int l = 0; file.contains("layer." + std::to_string(l) + "." + x); ++l) {
    const std::string prefix = "layer." + std::to_string(l) + ".";
    provenance.layer = l;
    std::vector<double> grid = column(file, prefix + x);
    std::vector<double> values = column(file, prefix + y);
    try {
      nulls.push_back(cdf_form ? fdroute::TabulatedNull::from_cdf(std::move(grid),
                                                                  std::move(values), provenance)
                               : fdroute::TabulatedNull::from_log_survival(
                                     std::move(grid), std::move(values), provenance));
    } catch (const std::invalid_argument& error) {
      throw Error(path.string() + ": layer " + std::to_string(l) + ": " + error.what());
    }
  }
  if (nulls.empty()) throw Error(path.string() + ": holds no table layer.0." + x);
  return nulls;
}

std::vector<std::vector<float>> load_selection_bias(const std::filesystem::path& path, int layers,
                                                    int experts) {
  const SafetensorsFile file(path);
  std::vector<std::vector<float>> biases;
  int found = 0;
  for (int l = 0; l < layers; ++l) {
    const std::string name = "layer." + std::to_string(l) + ".selection_bias";
    if (!file.contains(name)) continue;
    ++found;
    const std::vector<double> values = column(file, name);
    if (std::ssize(values) != experts) {
      throw Error(file.at(name).origin + " has " + std::to_string(values.size()) +
                  " values, the model has " + std::to_string(experts) + " experts");
    }
    std::vector<float>& bias = biases.emplace_back();
    for (const double value : values) bias.push_back(static_cast<float>(value));
  }
  if (found != 0 && found != layers) {
    throw Error(path.string() + ": holds a selection_bias for " + std::to_string(found) + " of " +
                std::to_string(layers) + " layers");
  }
  return biases;
}

std::vector<fdroute::TabulatedNull> load_nulls(const std::filesystem::path& path, int layers) {
  std::vector<fdroute::TabulatedNull> nulls = load_nulls(path);
  if (std::ssize(nulls) != layers) {
    throw Error(path.string() + ": holds tables for " + std::to_string(nulls.size()) +
                " layers, the model has " + std::to_string(layers));
  }
  return nulls;
}

}  // namespace olmoe

#pragma once

#include <fdroute/null/tabulated.hpp>
#include <filesystem>
#include <vector>

namespace olmoe {

/// Reads one null distribution per layer, layers 0, 1, ..., from a safetensors file of either form:
///
/// * `layer.{l}.score`, `layer.{l}.log_sf`: log survival on an ascending grid; metadata names the
///   `score`, and may give `trim`, `model`, `tokens`;
/// * `layer.{l}.x`, `layer.{l}.cdf`: cumulative distribution of raw logits.
///
/// Throws Error, naming file and layer, if there is no layer 0, the layers differ in form, or a
/// table is not what fdroute::TabulatedNull accepts.
std::vector<fdroute::TabulatedNull> load_nulls(const std::filesystem::path& path);

/// What rankings by a sigmoid add to it, one per layer, each of shape (experts): the tensors
/// `layer.{l}.selection_bias` of a nulls file, or nothing if it has none. Throws Error, naming file
/// and tensor, if a layer has none while another has, or not one number per expert.
std::vector<std::vector<float>> load_selection_bias(const std::filesystem::path& path, int layers,
                                                    int experts);

/// load_nulls() for a model of `layers` layers. Throws Error if the file has more or fewer.
std::vector<fdroute::TabulatedNull> load_nulls(const std::filesystem::path& path, int layers);

}  // namespace olmoe

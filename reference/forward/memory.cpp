#include "forward/memory.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "formats/error.hpp"
#include "forward/experts.hpp"

namespace olmoe {
namespace {

std::string gigabytes(double bytes) {
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), "%.1f GB", bytes / 1e9);
  return text.data();
}

}  // namespace

double machine_memory() {
  return static_cast<double>(::sysconf(_SC_PHYS_PAGES)) *
         static_cast<double>(::sysconf(_SC_PAGESIZE));
}

void require_memory(double bytes, const std::string& who, double available) {
  if (bytes <= available) return;
  throw Error(who + ": needs at least " + gigabytes(bytes) + " of memory, and this machine has " +
              gigabytes(available));
}

double working_memory(const Config& config, std::int64_t tokens) {
  const double hidden = config.hidden_size;
  const double kv = static_cast<double>(config.num_key_value_heads) * config.head_dim();
  const double layers = config.num_hidden_layers;
  const double experts = config.num_experts;
  const double vectors = 3 * hidden + kv + (config.attention_bias ? 2 * (hidden + kv) : 0);
  // Two norms, a branch and its input; queries, keys and values; the experts' rows.
  const double row = 5 * hidden + 2 * kv + experts +
                     config.num_experts_per_tok * (config.intermediate_size + hidden);
  constexpr std::int64_t chunk = 512;
  const auto rows = static_cast<double>(std::min(tokens, chunk));
  const double router = experts * hidden;  // a copy to be looked at
  return sizeof(float) * (layers * vectors + std::max(router, rows * row)) +
         layers * experts * sizeof(ExpertWeights);
}

double cache_memory(const Config& config, Storage storage, std::int64_t positions) {
  const double kv = static_cast<double>(config.num_key_value_heads) * config.head_dim();
  return 2.0 * kv * config.num_hidden_layers * static_cast<double>(positions) *
         static_cast<double>(size(storage));
}

double result_memory(const Config& config, std::int64_t tokens) {
  const double layers = config.num_hidden_layers;
  const double row =
      config.vocab_size + (layers + 1) * config.hidden_size + layers * config.num_experts;
  return sizeof(float) * row * static_cast<double>(tokens);
}

}  // namespace olmoe

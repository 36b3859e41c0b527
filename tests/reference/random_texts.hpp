#pragma once

#include <cstddef>
#include <cstdint>
#include <fdroute/any_router.hpp>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "forward/model.hpp"
#include "measure/texts.hpp"
#include "routing/routing.hpp"

/// What tests of measure/ measure: the tiny checkpoints on texts of random tokens.

inline const std::string tiny = FDROUTE_SOURCE_DIR "/tests/data/tiny/";

inline std::vector<std::int32_t> random_ids(std::size_t n, int vocabulary, std::uint32_t seed) {
  std::vector<std::int32_t> ids;
  for (std::size_t i = 0; i < n; ++i) {
    seed = seed * 1664525U + 1013904223U;
    ids.push_back(static_cast<std::int32_t>((seed >> 8) % static_cast<std::uint32_t>(vocabulary)));
  }
  return ids;
}

/// Texts of 70 and 41 tokens.
inline std::vector<olmoe::Text> two_texts(const olmoe::Model& model) {
  const int vocabulary = model.config().vocab_size;
  return {{"one", random_ids(70, vocabulary, 1), ""}, {"two", random_ids(41, vocabulary, 2), ""}};
}

/// One text of 600 tokens.
inline std::vector<olmoe::Text> one_text(const olmoe::Model& model) {
  olmoe::Text text{"random", {}, ""};
  std::mt19937 random(5);
  for (int i = 0; i < 600; ++i)
    text.ids.push_back(static_cast<std::int32_t>(
        random() % static_cast<std::uint32_t>(model.config().vocab_size)));
  return {text};
}

/// One router per layer.
inline std::vector<fdroute::AnyRouter> routers(const olmoe::Model& model,
                                               const std::string& policy) {
  return olmoe::make_routers(model.config(), policy, std::filesystem::path());
}

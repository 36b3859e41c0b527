#pragma once

#include <cstdint>
#include <fdroute/any_router.hpp>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "forward/model.hpp"

namespace olmoe {

/// Token ids of sequences of one length, shape (sequences, length).
struct TokenBatch {
  std::string origin;  ///< the file or option they come from, for messages
  std::vector<std::int32_t> ids;
  std::int64_t sequences = 0;
  std::int64_t length = 0;

  std::span<const std::int32_t> sequence(std::int64_t index) const {
    return std::span(ids).subspan(static_cast<std::size_t>(index * length),
                                  static_cast<std::size_t>(length));
  }
};

/// Input ids from a tensor (sequences, length) of integers. Throws Error for another shape or ids
/// beyond int32.
TokenBatch token_batch(const Tensor& tensor);

/// Input ids from a file: the tensor `input_ids` of a .safetensors file, else a JSON array of ids
/// or of such arrays, all of one length. Throws Error, naming the file, for anything else.
TokenBatch read_token_batch(const std::filesystem::path& path);

/// What a model computed on a TokenBatch; tokens = sequences x length, in order.
struct BatchResult {
  std::vector<float> logits;  ///< (tokens, vocabulary)
  ForwardTrace trace;         ///< each array over all tokens
};

/// Runs every sequence on its own, from an empty cache, and calls `on_sequence` after each. Throws
/// Error, naming the batch's origin, as Model::forward does, and if the result does not fit the
/// machine's memory.
BatchResult run_batch(const Model& model, const TokenBatch& batch,
                      std::span<const fdroute::AnyRouter> routers,
                      const std::function<void()>& on_sequence = {});

}  // namespace olmoe

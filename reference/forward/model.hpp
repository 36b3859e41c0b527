#pragma once

#include <cstdint>
#include <fdroute/any_router.hpp>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "formats/checkpoint.hpp"
#include "forward/attention.hpp"
#include "forward/config.hpp"
#include "forward/experts.hpp"

namespace olmoe {

/// Keys and values of one sequence. Starts empty; Model::forward appends to it.
struct KvCache {
  std::vector<LayerCache> layers;  ///< one per layer
  std::int64_t positions = 0;      ///< tokens seen
};

/// What one call of Model::forward computed on the way, for whoever asks.
struct ForwardTrace {
  /// (layers + 1) x (tokens, hidden): the embeddings, each layer's output, the last of them after
  /// the final norm, as transformers' output_hidden_states has it.
  std::vector<std::vector<float>> hidden_states;
  std::vector<ExecutedRouting> routing;  ///< one per layer
};

/// The weights of one layer. Norms are copies in float.
struct DecoderLayer {
  std::vector<float> input_norm;  ///< (hidden)
  AttentionWeights attention;
  std::vector<float> post_attention_norm;  ///< (hidden)
  MoeWeights moe;
};

/// An OLMoE decoder on the CPU. Weights stay in the mapped checkpoint. Arithmetic is in float, but
/// for what Compute says of the products with weights; the router's are always in float. A token's
/// result does not depend on the number of tokens computed together, to the last bit.
class Model {
 public:
  /// Opens a Hugging Face directory: config.json and weights. Throws Error if a file is missing or
  /// malformed, a tensor is missing, of an unexpected name, or has another shape than the config
  /// asks for; and if a norm's, a bias' or a router's weight is infinite or NaN. The large matrices
  /// are not read for that: what they spoil, forward() finds. Throws Error before anything is
  /// allocated if working_memory() of a token is more than the machine has. With Compute::bf16,
  /// throws std::invalid_argument where require_bf16_dot() does and Error for a matrix that is not
  /// BF16.
  explicit Model(const std::filesystem::path& directory, Compute compute = Compute::f32);

  const Config& config() const { return config_; }
  const Checkpoint& checkpoint() const { return checkpoint_; }

  enum class LogitsOf : std::uint8_t { every_token, last_token, no_token };

  /// Runs `ids` after the tokens in `cache` and returns logits (tokens, vocabulary), those of the
  /// last token alone, or none. Throws Error for an empty `ids`, an id outside the vocabulary, more
  /// positions than the model was made for, and a `source` of another number of layers. Throws
  /// Error, naming layer and token (its position in the sequence), if router logits, a hidden state
  /// or logits are infinite or NaN; `cache` and `trace` are then good for nothing.
  std::vector<float> forward(std::span<const std::int32_t> ids, KvCache& cache,
                             const RoutingSource& source, LogitsOf logits_of,
                             ForwardTrace* trace = nullptr) const;

  /// forward() routed by a policy: one router per layer.
  std::vector<float> forward(std::span<const std::int32_t> ids, KvCache& cache,
                             std::span<const fdroute::AnyRouter> routers, LogitsOf logits_of,
                             ForwardTrace* trace = nullptr) const {
    return forward(ids, cache, PolicyRouting(routers), logits_of, trace);
  }

  /// Logits (tokens, vocabulary) of the last hidden states of a ForwardTrace (tokens, hidden), or
  /// of some rows of them: what forward() would have returned, to the last bit. Throws Error if one
  /// is infinite or NaN, naming its token, of which the first is `first_token`.
  std::vector<float> logits(std::span<const float> hidden_states,
                            std::int64_t first_token = 0) const;

  const Matrix& embeddings() const { return embeddings_; }          ///< (vocabulary, hidden)
  std::span<const DecoderLayer> layers() const { return layers_; }  ///< one per layer
  std::span<const float> norm() const { return norm_; }             ///< (hidden)
  const Matrix& lm_head() const { return lm_head_; }                ///< (vocabulary, hidden)

 private:
  struct Workspace;

  /// The last hidden states of `ids`, few enough of them to be run at once.
  std::vector<float> run_chunk(std::span<const std::int32_t> ids, KvCache& cache,
                               const RoutingSource& source, ForwardTrace* trace,
                               Workspace& workspace) const;

  /// Throws Error unless all of `rows`, shape (tokens, anything), are finite; `what` is of token
  /// first_token + the row.
  void check_finite(std::span<const float> rows, std::size_t tokens, std::int64_t first_token,
                    const char* what, std::optional<std::size_t> layer = {}) const;

  std::filesystem::path directory_;
  Config config_;
  Checkpoint checkpoint_;
  RotaryEmbedding rotary_;
  Matrix embeddings_;                 // (vocabulary, hidden)
  Matrix lm_head_;                    // (vocabulary, hidden)
  std::vector<float> norm_;           // (hidden)
  std::vector<DecoderLayer> layers_;  // one per layer
};

}  // namespace olmoe

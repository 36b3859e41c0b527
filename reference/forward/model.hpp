#pragma once

#include <cstdint>
#include <fdroute/any_router.hpp>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "formats/checkpoint.hpp"
#include "forward/attention.hpp"
#include "forward/config.hpp"
#include "forward/experts.hpp"

namespace olmoe {

/// Keys and values of one sequence. Starts empty; Model::forward appends to it. Its first call
/// decides how they are stored, as the model says.
struct KvCache {
  std::vector<LayerCache> layers;  ///< one per layer
  std::int64_t positions = 0;      ///< tokens seen
};

/// What Model::forward computed on the way for the tokens of one sequence, for whoever asks.
struct ForwardTrace {
  /// (layers + 1) x (tokens, hidden): the embeddings, each layer's output, the last of them after
  /// the final norm, as transformers' output_hidden_states has it.
  std::vector<std::vector<float>> hidden_states;
  std::vector<ExecutedRouting> routing;  ///< one per layer
};

/// The next tokens of one sequence.
struct Sequence {
  std::span<const std::int32_t> ids;  ///< they follow the tokens in `cache`
  KvCache* cache;
  ForwardTrace* trace = nullptr;  ///< if given, appended to
};

/// The weights of one layer. Norms are copies in float.
struct DecoderLayer {
  std::vector<float> input_norm;  ///< (hidden)
  AttentionWeights attention;
  std::vector<float> post_attention_norm;  ///< (hidden)
  MoeWeights moe;
};

/// An OLMoE decoder on the CPU. Weights stay in the mapped checkpoint. Arithmetic is in float, but
/// for what Compute says of the products with weights; the router's are always in float. Keys and
/// values are rounded to the storage of the cache before anything looks at them. A token's
/// result depends on its experts and on the tokens before it, to the last bit, and not on what else
/// is computed together with it.
class Model {
 public:
  /// Opens a Hugging Face directory: config.json and weights. Throws Error if a file is missing or
  /// malformed, a tensor is missing, of an unexpected name, or has another shape than the config
  /// asks for; and if a norm's, a bias' or a router's weight is infinite or NaN. The large matrices
  /// are not read for that: what they spoil, forward() finds. Throws Error before anything is
  /// allocated if working_memory() of a token is more than the machine has. With Compute::bf16,
  /// throws std::invalid_argument where require_bf16_dot() does and Error for a matrix that is not
  /// BF16. Caches that start empty store keys and values as `kv`.
  explicit Model(const std::filesystem::path& directory, Compute compute = Compute::f32,
                 Storage kv = Storage::f32);

  const Config& config() const { return config_; }
  Storage kv() const { return kv_; }
  const Checkpoint& checkpoint() const { return checkpoint_; }

  enum class LogitsOf : std::uint8_t { every_token, last_token, no_token };

  /// Runs several sequences together, each with a cache of its own, so that a weight is read once
  /// for all of them. Returns logits (tokens, vocabulary) of all tokens, sequence after sequence;
  /// of each sequence's last token, (sequences, vocabulary); or none.
  ///
  /// `source` is asked once a layer for all rows that are run at once: with n sequences, the next
  /// 512 / n tokens of each, and less where a sequence ends.
  ///
  /// Throws Error for no sequence or one without `ids`, an id outside the vocabulary, more
  /// positions than the model was made for, and a `source` of another number of layers. Throws
  /// Error, naming layer and token (its position, and the index of its sequence if there are
  /// several), if router logits, a hidden state or logits are infinite or NaN, or a key or value is
  /// too large for its cache; caches and traces are then good for nothing.
  std::vector<float> forward(std::span<const Sequence> sequences, RoutingSource& source,
                             LogitsOf logits_of) const;

  /// forward() of one sequence, routed by a policy: one router per layer.
  std::vector<float> forward(std::span<const std::int32_t> ids, KvCache& cache,
                             std::span<const fdroute::AnyRouter> routers, LogitsOf logits_of,
                             ForwardTrace* trace = nullptr) const {
    const Sequence alone{ids, &cache, trace};
    PolicyRouting source(routers);
    return forward({&alone, 1}, source, logits_of);
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

  void check(std::span<const Sequence> sequences, const RoutingSource& source) const;

  /// The last hidden states (rows, hidden) of sequences[i]'s stretches[i], all of its ids: few
  /// enough of them to be run at once.
  std::vector<float> run_chunk(std::span<const Sequence> sequences,
                               std::span<const Stretch> stretches, RoutingSource& source,
                               Workspace& workspace) const;

  std::vector<float> logits(std::span<const float> hidden_states,
                            std::span<const Stretch> stretches) const;

  /// "DIR: layer 3: WHAT of token 17 of sequence 2", of a row of `stretches`.
  std::string at_token(std::size_t row, std::span<const Stretch> stretches, const std::string& what,
                       std::optional<std::size_t> layer) const;

  /// Throws Error unless all of `rows`, shape (tokens of `stretches`, anything), are finite; `what`
  /// is what they are of a token.
  void check_finite(std::span<const float> rows, std::span<const Stretch> stretches,
                    const char* what, std::optional<std::size_t> layer = {}) const;

  std::filesystem::path directory_;
  Config config_;
  Storage kv_;
  Checkpoint checkpoint_;
  RotaryEmbedding rotary_;
  Matrix embeddings_;                 // (vocabulary, hidden)
  Matrix lm_head_;                    // (vocabulary, hidden)
  std::vector<float> norm_;           // (hidden)
  std::vector<DecoderLayer> layers_;  // one per layer
};

}  // namespace olmoe

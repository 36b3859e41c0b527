#include "cli/batch.hpp"

#include <limits>
#include <string>

#include "formats/error.hpp"
#include "formats/json.hpp"
#include "formats/safetensors.hpp"
#include "forward/memory.hpp"

namespace olmoe {
namespace {

template <class T>
void append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

/// An array of ids, or an array of such arrays, all of one length.
TokenBatch batch_from_json(const std::filesystem::path& path) {
  nlohmann::json json = read_json(path);
  if (!json.is_array()) throw Error(path.string() + ": an array of token ids is expected");
  if (json.empty() || !json.front().is_array()) json = nlohmann::json::array({json});

  TokenBatch batch;
  batch.origin = path.string();
  batch.sequences = static_cast<std::int64_t>(json.size());
  batch.length = static_cast<std::int64_t>(json.front().size());
  for (const nlohmann::json& sequence : json) {
    if (!sequence.is_array() || static_cast<std::int64_t>(sequence.size()) != batch.length)
      throw Error(path.string() + ": the sequences differ in length");
    for (const nlohmann::json& id : sequence) {
      if (!id.is_number_integer() || id < 0 || id > std::numeric_limits<std::int32_t>::max())
        throw Error(path.string() + ": " + show(id) + " is not a token id");
      batch.ids.push_back(id.get<std::int32_t>());
    }
  }
  return batch;
}

}  // namespace

TokenBatch token_batch(const Tensor& tensor) {
  if (tensor.shape.size() != 2) {
    throw Error(tensor.origin + " has shape " + to_string(tensor.shape) +
                "; (sequences, length) is expected");
  }
  TokenBatch batch{
      .origin = tensor.origin, .ids = {}, .sequences = tensor.shape[0], .length = tensor.shape[1]};
  for (const std::int64_t id : tensor.to_int64()) {
    if (id < 0 || id > std::numeric_limits<std::int32_t>::max())
      throw Error(tensor.origin + " holds " + std::to_string(id) + ", which is not a token id");
    batch.ids.push_back(static_cast<std::int32_t>(id));
  }
  return batch;
}

TokenBatch read_token_batch(const std::filesystem::path& path) {
  if (path.extension() == ".safetensors") return token_batch(SafetensorsFile(path).at("input_ids"));
  return batch_from_json(path);
}

BatchResult run_batch(const Model& model, const TokenBatch& batch,
                      std::span<const fdroute::AnyRouter> routers,
                      const std::function<void()>& on_sequence) {
  const std::int64_t tokens = batch.sequences * batch.length;
  require_memory(result_memory(model.config(), tokens) + working_memory(model.config(), tokens) +
                     cache_memory(model.config(), model.kv(), batch.length),
                 batch.origin);
  BatchResult result;
  for (std::int64_t s = 0; s < batch.sequences; ++s) {
    KvCache cache;
    ForwardTrace trace;
    try {
      append(result.logits, model.forward(batch.sequence(s), cache, routers,
                                          Model::LogitsOf::every_token, &trace));
    } catch (const Error& error) {
      throw Error(batch.origin + ": " + error.what());
    }
    if (on_sequence) on_sequence();
    if (s == 0) {
      result.trace = std::move(trace);
      continue;
    }
    for (std::size_t i = 0; i < trace.hidden_states.size(); ++i)
      append(result.trace.hidden_states[i], trace.hidden_states[i]);
    for (std::size_t l = 0; l < trace.routing.size(); ++l)
      result.trace.routing[l].append(trace.routing[l]);
  }
  return result;
}

}  // namespace olmoe

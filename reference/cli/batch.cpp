#include "cli/batch.hpp"

#include <limits>
#include <string>

#include "formats/error.hpp"

namespace olmoe {
namespace {

template <class T>
void append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
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

BatchResult run_batch(const Model& model, const TokenBatch& batch,
                      std::span<const fdroute::AnyRouter> routers,
                      const std::function<void()>& on_sequence) {
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

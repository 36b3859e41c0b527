// Perplexity, and time to decode, of a GGUF file that llama.cpp runs and fdroute routes.
// docs/llama-cpp.md has its usage.

#include <ggml-backend.h>
#include <gguf.h>
#include <llama.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <exception>
#include <fdroute/parse.hpp>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "formats/error.hpp"
#include "formats/json.hpp"
#include "routing/nulls.hpp"
#include "routing_hook.hpp"

namespace fdroute_llama {
namespace {

constexpr const char* usage =
    "usage: fdroute_llama --model FILE.gguf --ids FILE.json [--policy POLICY] [--nulls FILE]\n"
    "         [--renormalize true|false] [--width N] [--window N] [--stride N] [--decode N]\n"
    "         [--threads N]\n"
    "  --ids          a JSON array of token ids, as `olmoe tokenize` prints\n"
    "  --policy       an fdroute policy; without it llama.cpp routes by itself, without a "
    "callback\n"
    "  --nulls        null distributions, one a layer, for policies that read p-values\n"
    "  --renormalize  divide weights by their sum, unless the policy says; default: false\n"
    "  --width        places for experts a token, the model's expert_used_count for this run;\n"
    "                 default: what the policy may need, or without a policy the file's\n"
    "  --window       tokens run together; default: 1024, or all but one if there are fewer\n"
    "  --stride       tokens from one window to the next; default: half a window\n"
    "  --decode       instead of perplexity: the time of N tokens, one by one, after 8 ids\n"
    "  --threads      default: 2\n";

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// "--name value" pairs.
class Arguments {
 public:
  Arguments(int count, char** values) {
    static constexpr const char* known[] = {"--model",  "--ids",         "--policy", "--nulls",
                                            "--width",  "--renormalize", "--window", "--stride",
                                            "--decode", "--threads"};
    for (int i = 1; i < count; i += 2) {
      if (std::find(std::begin(known), std::end(known), std::string(values[i])) == std::end(known))
        throw UsageError(std::string("unknown argument ") + values[i]);
      if (i + 1 == count) throw UsageError(std::string(values[i]) + " needs a value");
      if (!given_.emplace(values[i], values[i + 1]).second)
        throw UsageError(std::string(values[i]) + " is given twice");
    }
  }

  std::optional<std::string> text(const std::string& name) const {
    const auto found = given_.find(name);
    if (found == given_.end()) return std::nullopt;
    return found->second;
  }

  std::string needed(const std::string& name) const {
    const auto value = text(name);
    if (!value) throw UsageError(name + " is needed");
    return *value;
  }

  std::optional<std::int32_t> number(const std::string& name) const {
    const auto value = text(name);
    if (!value) return std::nullopt;
    std::int32_t number = 0;
    const auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), number);
    if (error != std::errc{} || end != value->data() + value->size() || number < 1)
      throw UsageError(name + " takes a whole number from 1 on, got " + *value);
    return number;
  }

  bool flag(const std::string& name, bool otherwise) const {
    const auto value = text(name);
    if (!value) return otherwise;
    if (*value != "true" && *value != "false")
      throw UsageError(name + " takes true or false, got " + *value);
    return *value == "true";
  }

 private:
  std::map<std::string, std::string> given_;
};

using ModelPointer = std::unique_ptr<llama_model, decltype(&llama_model_free)>;
using ContextPointer = std::unique_ptr<llama_context, decltype(&llama_free)>;

/// What a file says about its model, read without the model.
struct Description {
  std::string architecture;
  std::int32_t experts;
  std::int32_t experts_used;
  std::map<int, std::vector<float>> selection_bias;  // of each layer with experts; empty: none
};

/// The selection bias of a layer, (experts), if its experts are chosen with one.
std::vector<float> read_selection_bias(const std::string& path, const gguf_context* file, int layer,
                                       std::int32_t experts) {
  const std::string name = "blk." + std::to_string(layer) + ".exp_probs_b.bias";
  const std::int64_t id = gguf_find_tensor(file, name.c_str());
  if (id < 0) return {};
  std::vector<float> bias(static_cast<std::size_t>(experts));
  const std::size_t bytes = bias.size() * sizeof bias[0];
  if (gguf_get_tensor_type(file, id) != GGML_TYPE_F32 || gguf_get_tensor_size(file, id) != bytes)
    throw std::runtime_error(path + ": " + name + " does not hold a float for each expert");
  std::ifstream in(path, std::ios::binary);
  in.seekg(
      static_cast<std::streamoff>(gguf_get_data_offset(file) + gguf_get_tensor_offset(file, id)));
  in.read(reinterpret_cast<char*>(bias.data()), static_cast<std::streamsize>(bytes));
  if (!in) throw std::runtime_error(path + ": " + name + " cannot be read");
  return bias;
}

Description describe(const std::string& path) {
  const std::unique_ptr<gguf_context, decltype(&gguf_free)> file(
      gguf_init_from_file(path.c_str(), {.no_alloc = true, .ctx = nullptr}), &gguf_free);
  if (!file) throw std::runtime_error(path + ": no GGUF file");
  const auto find = [&](const std::string& key, gguf_type type) {
    const std::int64_t id = gguf_find_key(file.get(), key.c_str());
    if (id < 0) throw std::runtime_error(path + ": has no " + key);
    if (gguf_get_kv_type(file.get(), id) != type)
      throw std::runtime_error(path + ": " + key + " is no " + gguf_type_name(type));
    return id;
  };
  const std::string architecture =
      gguf_get_val_str(file.get(), find("general.architecture", GGUF_TYPE_STRING));
  const auto number = [&](const char* key) {
    return static_cast<std::int32_t>(
        gguf_get_val_u32(file.get(), find(architecture + key, GGUF_TYPE_UINT32)));
  };
  Description model{architecture, number(".expert_count"), number(".expert_used_count"), {}};
  const std::int32_t layers = number(".block_count");
  for (std::int32_t layer = 0; layer < layers; ++layer) {
    const std::string router = "blk." + std::to_string(layer) + ".ffn_gate_inp.weight";
    if (gguf_find_tensor(file.get(), router.c_str()) >= 0)
      model.selection_bias[layer] = read_selection_bias(path, file.get(), layer, model.experts);
  }
  return model;
}

/// The model with `width` experts a token, whatever its file says.
ModelPointer load(const std::string& path, const std::string& architecture, std::int32_t width) {
  llama_model_kv_override overrides[2] = {};  // an empty key ends the list
  overrides[0].tag = LLAMA_KV_OVERRIDE_TYPE_INT;
  std::snprintf(overrides[0].key, sizeof overrides[0].key, "%s.expert_used_count",
                architecture.c_str());
  overrides[0].val_i64 = width;
  llama_model_params parameters = llama_model_default_params();
  parameters.n_gpu_layers = 0;
  parameters.kv_overrides = overrides;
  ModelPointer model(llama_model_load_from_file(path.c_str(), parameters), &llama_model_free);
  if (!model) throw std::runtime_error(path + ": llama.cpp does not load it");
  return model;
}

/// A router for each layer with experts; the l-th of them uses layer l of the nulls file.
std::map<int, fdroute::AnyRouter> make_routers(const Description& model,
                                               const Arguments& arguments) {
  const std::string policy = arguments.needed("--policy");
  std::vector<fdroute::TabulatedNull> nulls;
  if (const auto path = arguments.text("--nulls"))
    nulls = olmoe::load_nulls(*path, static_cast<int>(model.selection_bias.size()));
  std::map<int, fdroute::AnyRouter> routers;
  for (const auto& [layer, bias] : model.selection_bias) {
    const fdroute::ParseOptions<> options{
        .null = nulls.empty() ? nullptr : &nulls[routers.size()],
        .weights = {.renormalize = arguments.flag("--renormalize", false)},
        .selection_bias = bias};
    routers.emplace(layer, fdroute::parse_router(policy, model.experts, options));
  }
  return routers;
}

std::vector<llama_token> read_ids(const std::string& path, std::int32_t vocabulary) {
  const auto json = olmoe::read_json(path);
  if (!json.is_array()) throw std::runtime_error(path + ": not an array of ids");
  std::vector<llama_token> ids;
  for (const auto& id : json) {
    if (!id.is_number_integer() || id < 0 || id >= vocabulary)
      throw std::runtime_error(path + ": " + olmoe::show(id) + " is no id below " +
                               std::to_string(vocabulary));
    ids.push_back(id.get<llama_token>());
  }
  return ids;
}

/// Runs `ids` as the next tokens of the only sequence; the logits of all of them are computed.
void decode(llama_context& context, std::span<const llama_token> ids, std::int32_t position) {
  const auto count = static_cast<std::int32_t>(ids.size());
  llama_batch batch = llama_batch_init(count, 0, 1);
  batch.n_tokens = count;
  for (std::int32_t i = 0; i < count; ++i) {
    batch.token[i] = ids[static_cast<std::size_t>(i)];
    batch.pos[i] = position + i;
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = 1;
  }
  const int status = llama_decode(&context, batch);
  llama_batch_free(batch);
  if (status != 0) throw std::runtime_error("llama_decode failed: " + std::to_string(status));
}

double log_probability(std::span<const float> logits, llama_token id) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x) - largest);
  return static_cast<double>(logits[static_cast<std::size_t>(id)]) - largest - std::log(sum);
}

struct Loss {
  double nll = 0;  // natural, the sum over `tokens`
  std::int64_t tokens = 0;
};

/// Windows of `window` tokens, `stride` apart, the last one moved back to the end of the text. A
/// token is predicted once, in the first window that can: as `olmoe perplexity` does it.
Loss loss_of(llama_context& context, std::span<const llama_token> ids, std::int64_t window,
             std::int64_t stride, std::int32_t vocabulary) {
  const auto predictions = static_cast<std::int64_t>(ids.size()) - 1;
  Loss loss;
  for (std::int64_t first = 0; loss.tokens < predictions; first += stride) {
    first = std::min(first, predictions - window);
    llama_memory_clear(llama_get_memory(&context), true);
    decode(context, ids.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(window)),
           0);
    for (std::int64_t i = loss.tokens; i < first + window; ++i) {
      const float* row = llama_get_logits_ith(&context, static_cast<std::int32_t>(i - first));
      if (row == nullptr) throw std::runtime_error("llama.cpp computed no logits");
      loss.nll -= log_probability({row, static_cast<std::size_t>(vocabulary)},
                                  ids[static_cast<std::size_t>(i + 1)]);
    }
    loss.tokens = first + window;
  }
  return loss;
}

struct Seconds {
  double wall;
  double processor;  // of all threads
};

/// The time of `tokens` greedy steps after 8 ids.
Seconds time_to_decode(llama_context& context, std::span<const llama_token> ids,
                       std::int32_t tokens, std::int32_t vocabulary) {
  decode(context, ids.first(8), 0);
  std::int32_t position = 8;
  std::int32_t last = 7;
  const auto start = std::chrono::steady_clock::now();
  const std::clock_t processor_start = std::clock();
  for (; position < 8 + tokens; ++position) {
    const float* row = llama_get_logits_ith(&context, last);
    const llama_token next[] = {
        static_cast<llama_token>(std::max_element(row, row + vocabulary) - row)};
    decode(context, next, position);
    last = 0;
  }
  return {std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(),
          static_cast<double>(std::clock() - processor_start) / CLOCKS_PER_SEC};
}

void run(const Arguments& arguments) {
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
      },
      nullptr);
  ggml_backend_load_all();

  const std::string path = arguments.needed("--model");
  const std::string ids_path = arguments.needed("--ids");
  const Description description = describe(path);

  std::optional<RoutingHook> hook;
  std::string policy = "none, llama.cpp's own";
  std::int32_t capacity = description.experts_used;
  if (arguments.text("--policy")) {
    auto routers = make_routers(description, arguments);
    if (routers.empty()) throw std::runtime_error(path + ": no layer has experts");
    capacity = 0;
    for (const auto& [layer, router] : routers) capacity = std::max(capacity, router.capacity());
    policy = routers.begin()->second.policy();
    hook.emplace(std::move(routers));
  } else if (arguments.text("--nulls") || arguments.text("--renormalize")) {
    throw UsageError("--nulls and --renormalize go with a --policy");
  }
  const std::int32_t width = arguments.number("--width").value_or(capacity);
  if (hook && width < capacity)
    throw UsageError("--width must be at least the " + std::to_string(capacity) +
                     " experts that the policy may choose, got " + std::to_string(width));

  const ModelPointer model = load(path, description.architecture, width);
  const std::int32_t vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model.get()));
  const std::vector<llama_token> ids = read_ids(ids_path, vocabulary);
  const auto steps = arguments.number("--decode");
  if (ids.size() < 9) throw std::runtime_error(ids_path + ": fewer than 9 ids");
  const auto predictions = static_cast<std::int32_t>(ids.size()) - 1;
  const std::int32_t window = arguments.number("--window").value_or(std::min(predictions, 1024));
  const std::int32_t stride = arguments.number("--stride").value_or(std::max(window / 2, 1));
  if (window > predictions || stride > window)
    throw UsageError("stride <= window < the " + std::to_string(ids.size()) +
                     " ids must hold, got " + std::to_string(stride) + " and " +
                     std::to_string(window));

  // All in float, in one piece: then llama.cpp differs from the reference in the order of its sums.
  llama_context_params context_parameters = llama_context_default_params();
  const auto context_size = static_cast<std::uint32_t>(steps ? *steps + 8 : window);
  context_parameters.n_ctx = context_size;
  context_parameters.n_batch = context_size;
  context_parameters.n_ubatch = context_size;
  context_parameters.n_threads = arguments.number("--threads").value_or(2);
  context_parameters.n_threads_batch = context_parameters.n_threads;
  context_parameters.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  context_parameters.type_k = GGML_TYPE_F32;
  context_parameters.type_v = GGML_TYPE_F32;
  if (hook) hook->install(context_parameters);
  const ContextPointer context(llama_init_from_model(model.get(), context_parameters), &llama_free);
  if (!context) throw std::runtime_error("llama.cpp makes no context of " + path);

  std::printf("llama.cpp %s\npolicy %s\nwidth %d\n", llama_version(), policy.c_str(), width);
  if (steps) {
    const Seconds seconds = time_to_decode(*context, ids, *steps, vocabulary);
    std::printf("tokens/s %.3f\nprocessor-ms/token %.3f\n", *steps / seconds.wall,
                1000 * seconds.processor / *steps);
  } else {
    const Loss loss = loss_of(*context, ids, window, stride, vocabulary);
    std::printf("tokens %lld\nperplexity %.6f\n", static_cast<long long>(loss.tokens),
                std::exp(loss.nll / static_cast<double>(loss.tokens)));
  }
  if (hook) std::printf("experts %.6f\n", hook->mean_experts());
}

}  // namespace
}  // namespace fdroute_llama

int main(int count, char** values) {
  try {
    fdroute_llama::run(fdroute_llama::Arguments(count, values));
    return 0;
  } catch (const fdroute_llama::UsageError& error) {
    std::fprintf(stderr, "fdroute_llama: %s\n%s", error.what(), fdroute_llama::usage);
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fdroute_llama: %s\n", error.what());
    return 1;
  }
}

// fdroute's routers and those that ggml's operations make, over the same logits: a library with C
// functions, which peers.py calls by turns.
//
// ggml's graph is that of llama.cpp's mixture of experts, from the logits to the experts and their
// weights: its operations in its order. They are selected by sorting whole rows, as llama.cpp does,
// or by ggml_top_k, which it could do. DeepSeek-V2's groups are scored by their best expert here,
// where llama.cpp knows the sum of two alone.

#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml-cpp.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <exception>
#include <stdexcept>

#include "../routing/report.hpp"
#include "models.hpp"

#if !defined(NDEBUG) || !defined(__OPTIMIZE__)
#error "a timing without optimisation or with asserts says nothing"
#endif

namespace peers {
namespace {

/// Seconds that have gone by; on one thread those that its processor spent on it, so that other
/// programs take little from a figure.
double now(int threads) {
  std::timespec time{};
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// A context for the descriptions of tensors, whose memory comes later.
ggml_context_ptr descriptions(std::size_t tensors, std::size_t graph_nodes) {
  const std::size_t bytes = tensors * ggml_tensor_overhead() +
                            (graph_nodes > 0 ? ggml_graph_overhead_custom(graph_nodes, false) : 0);
  ggml_context_ptr context(ggml_init({bytes, nullptr, true}));
  if (context == nullptr) throw std::runtime_error("ggml_init failed");
  return context;
}

/// Routers of `tokens` tokens, some in one graph: a model's graph has one a layer, so that what
/// ggml does once a graph is shared. It `sorts` whole rows, or takes the largest of them.
class Graph {
 public:
  Graph(ggml_backend_t backend, const Numbers& numbers, int tokens, int routers, bool sorts)
      : backend_(backend),
        numbers_(numbers),
        tokens_(tokens),
        sorts_(sorts),
        nodes_(static_cast<std::size_t>(routers) * 32),
        inputs_(descriptions(static_cast<std::size_t>(routers) + 1, 0)),
        context_(descriptions(nodes_, nodes_)) {
    for (int i = 0; i < routers; ++i) {
      logits_.push_back(ggml_new_tensor_2d(inputs_.get(), GGML_TYPE_F32, numbers.experts, tokens));
    }
    if (!numbers.bias.empty())
      bias_ = ggml_new_tensor_1d(inputs_.get(), GGML_TYPE_F32, numbers.experts);
    input_memory_.reset(ggml_backend_alloc_ctx_tensors(inputs_.get(), backend));
    if (input_memory_ == nullptr) throw std::runtime_error("no memory for ggml's inputs");
    if (bias_ != nullptr)
      ggml_backend_tensor_set(bias_, numbers.bias.data(), 0, ggml_nbytes(bias_));

    graph_ = ggml_new_graph_custom(context_.get(), nodes_, false);
    for (ggml_tensor* logits : logits_) add_router(logits);
    memory_.reset(ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend)));
    if (!ggml_gallocr_alloc_graph(memory_.get(), graph_))
      throw std::runtime_error("no memory for ggml's graph");
  }

  int rows() const { return tokens_ * static_cast<int>(logits_.size()); }

  /// Takes rows() rows of logits.
  void load(const float* rows) {
    for (ggml_tensor* logits : logits_) {
      ggml_backend_tensor_set(logits, rows, 0, ggml_nbytes(logits));
      rows += ggml_nelements(logits);
    }
  }

  void compute() {
    if (ggml_backend_graph_compute(backend_, graph_) != GGML_STATUS_SUCCESS)
      throw std::runtime_error("ggml's graph failed");
  }

  /// What was computed: (rows(), top_k) each.
  void read(std::int32_t* ids, float* weights) const {
    const auto width = static_cast<std::size_t>(numbers_.top_k);
    for (std::size_t i = 0; i < logits_.size(); ++i) {
      // A row of ids may be the beginning of a row of all experts, sorted.
      for (int t = 0; t < tokens_; ++t) {
        std::memcpy(
            ids,
            static_cast<const char*>(ids_[i]->data) + static_cast<std::size_t>(t) * ids_[i]->nb[1],
            width * sizeof *ids);
        ids += width;
      }
      ggml_backend_tensor_get(weights_[i], weights, 0, ggml_nbytes(weights_[i]));
      weights += ggml_nelements(weights_[i]);
    }
  }

 private:
  /// The ids of each row's k largest.
  ggml_tensor* largest(ggml_tensor* keys, int k) {
    return sorts_ ? ggml_argsort_top_k(context_.get(), keys, k)
                  : ggml_top_k(context_.get(), keys, k);
  }

  /// Keys that are -inf outside of the groups of largest score.
  ggml_tensor* limit_to_groups(ggml_tensor* keys) {
    ggml_context* c = context_.get();
    const int size = numbers_.experts / numbers_.groups;
    ggml_tensor* by_group = ggml_reshape_3d(c, keys, size, numbers_.groups, tokens_);
    ggml_tensor* single = ggml_reshape_4d(c, by_group, 1, size, numbers_.groups, tokens_);
    ggml_tensor* best = ggml_get_rows(c, single, largest(by_group, numbers_.best));
    best = ggml_reshape_3d(c, best, numbers_.best, numbers_.groups, tokens_);
    if (numbers_.best > 1) best = ggml_sum_rows(c, best);
    ggml_tensor* scores = ggml_reshape_2d(c, best, numbers_.groups, tokens_);
    ggml_tensor* chosen = largest(scores, numbers_.kept);
    ggml_tensor* nothing = ggml_fill(c, by_group, -INFINITY);
    ggml_tensor* kept = ggml_get_rows(c, by_group, chosen);
    return ggml_reshape_2d(c, ggml_set_rows(c, nothing, kept, chosen), numbers_.experts, tokens_);
  }

  void add_router(ggml_tensor* logits) {
    ggml_context* c = context_.get();
    const Numbers& n = numbers_;
    const bool softmax_of_selected = n.by_logit && !n.sigmoid;
    ggml_tensor* values = softmax_of_selected ? logits
                          : n.sigmoid         ? ggml_sigmoid(c, logits)
                                              : ggml_soft_max(c, logits);
    ggml_tensor* keys = n.by_logit ? logits : values;
    if (bias_ != nullptr) keys = ggml_add(c, keys, bias_);
    if (n.groups > 1) keys = limit_to_groups(keys);
    ggml_tensor* ids = largest(keys, n.top_k);
    ggml_tensor* single = ggml_reshape_3d(c, values, 1, n.experts, tokens_);
    ggml_tensor* weights = ggml_get_rows(c, single, ids);
    weights = ggml_reshape_2d(c, weights, n.top_k, tokens_);
    if (softmax_of_selected) weights = ggml_soft_max(c, weights);
    if (n.normalize) {
      // llama.cpp's bound is the least that is normal in 16 bits.
      ggml_tensor* sum = ggml_clamp(c, ggml_sum_rows(c, weights), 6.103515625e-5F, INFINITY);
      weights = ggml_div(c, weights, sum);
    }
    if (n.scale != 1.0F) weights = ggml_scale(c, weights, n.scale);
    ggml_set_output(sorts_ ? ids->view_src : ids);
    ggml_set_output(weights);
    ggml_build_forward_expand(graph_, ids);
    ggml_build_forward_expand(graph_, weights);
    ids_.push_back(ids);
    weights_.push_back(weights);
  }

  ggml_backend_t backend_;
  const Numbers& numbers_;
  int tokens_;
  bool sorts_;
  std::size_t nodes_;
  ggml_context_ptr inputs_;
  ggml_context_ptr context_;
  ggml_backend_buffer_ptr input_memory_{};
  ggml_gallocr_ptr memory_{};
  ggml_cgraph* graph_ = nullptr;
  ggml_tensor* bias_ = nullptr;
  std::vector<ggml_tensor*> logits_{};
  std::vector<ggml_tensor*> ids_{};
  std::vector<ggml_tensor*> weights_{};
};

/// The library's state: peers.py opens it once.
struct Library {
  explicit Library(int rows) : models(make_models(rows)) {
    ggml_backend_load_all();
    backend.reset(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr));
    if (backend == nullptr) throw std::runtime_error("ggml has no CPU backend here");
    registry = ggml_backend_dev_backend_reg(ggml_backend_get_device(backend.get()));
  }

  void use_threads(int threads) {
    const auto set = reinterpret_cast<ggml_backend_set_n_threads_t>(
        ggml_backend_reg_get_proc_address(registry, "ggml_backend_set_n_threads"));
    if (set == nullptr) throw std::runtime_error("ggml's CPU backend has no number of threads");
    set(backend.get(), threads);
  }

  std::string features() const {
    const auto get = reinterpret_cast<ggml_backend_get_features_t>(
        ggml_backend_reg_get_proc_address(registry, "ggml_backend_get_features"));
    std::string names;
    for (auto* f = get == nullptr ? nullptr : get(registry); f != nullptr && f->name != nullptr;
         ++f)
      names += (names.empty() ? "" : " ") + std::string(f->name);
    return names;
  }

  std::string describe() const {
    std::string text = "{\"processor\": " + bench::quoted(where.processor) +
                       ", \"processors\": " + std::to_string(where.processors) +
                       ", \"others\": " + std::to_string(where.others) +
                       ", \"compiler\": " + bench::quoted(where.compiler) +
                       ", \"version\": " + bench::quoted(where.version) +
                       ", \"date\": " + bench::quoted(where.date) +
                       ", \"ggml\": " + bench::quoted(ggml_version()) +
                       ", \"ggml_features\": " + bench::quoted(features()) + ", \"models\": [";
    for (const Model& model : models) {
      const Numbers& n = model.numbers;
      text += (&model == &models[0] ? "" : ", ") + ("{\"name\": " + bench::quoted(n.name)) +
              ", \"rule\": " + bench::quoted(n.rule);
      const auto number = [&](const char* name, auto value) {
        text += std::string(", \"") + name + "\": " + std::to_string(value);
      };
      number("experts", n.experts);
      number("top_k", n.top_k);
      number("sigmoid", static_cast<int>(n.sigmoid));
      number("by_logit", static_cast<int>(n.by_logit));
      number("normalize", static_cast<int>(n.normalize));
      number("scale", n.scale);
      number("groups", n.groups);
      number("kept", n.kept);
      number("best", n.best);
      number("biased", static_cast<int>(!n.bias.empty()));
      number("alpha", alpha);
      number("mean", null.mean);
      number("sd", null.sd);
      text += "}";
    }
    return text + "]}";
  }

  bench::Circumstances where;
  std::vector<Model> models;
  ggml_backend_ptr backend{};
  ggml_backend_reg_t registry = nullptr;
};

/// Calls f and returns what it returns; prints what it throws and returns -1.
template <class F>
double guarded(const F& f) {
  try {
    return f();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "peers: %s\n", error.what());
    return -1.0;
  }
}

Library* library = nullptr;
std::string description;
std::string noise;

}  // namespace
}  // namespace peers

extern "C" {

/// Makes the models, with so many rows each, and says what they are, as JSON; null if it cannot.
const char* peers_open(int rows) {
  using namespace peers;
  guarded([&] {
    library = new Library(rows);
    description = library->describe();
    return 0.0;
  });
  return library == nullptr ? nullptr : description.c_str();
}

/// Why times that were taken now are not to be quoted, or "".
const char* peers_noise(double spread) {
  peers::noise = peers::library->where.noise(spread);
  return peers::noise.c_str();
}

const float* peers_logits(int model) {
  return peers::library->models[static_cast<std::size_t>(model)].logits.data();
}

const float* peers_bias(int model) {
  return peers::library->models[static_cast<std::size_t>(model)].numbers.bias.data();
}

/// What fdroute selected last: (rows, top_k), (rows, top_k), (rows).
const std::int32_t* peers_ids(int model) {
  return peers::library->models[static_cast<std::size_t>(model)].ids.data();
}
const float* peers_weights(int model) {
  return peers::library->models[static_cast<std::size_t>(model)].weights.data();
}
const std::int32_t* peers_counts(int model) {
  return peers::library->models[static_cast<std::size_t>(model)].counts.data();
}

/// Calls route() with `tokens` rows at a time, from row `first` on, and after the last row with the
/// first again. Returns the seconds.
double peers_route(int model, int tokens, int first, int calls, int threads) {
  peers::Model& m = peers::library->models[static_cast<std::size_t>(model)];
  const double start = peers::now(threads);
  m.route(m, tokens, first, calls, threads);
  return peers::now(threads) - start;
}

/// A graph of ggml's, made once: `routers` routers of `tokens` tokens each, by argsort or by top_k.
/// Null if it cannot be.
void* peers_ggml_open(int model, int tokens, int routers, int sorts) {
  void* graph = nullptr;
  peers::guarded([&] {
    const auto& numbers = peers::library->models[static_cast<std::size_t>(model)].numbers;
    graph = new peers::Graph(peers::library->backend.get(), numbers, tokens, routers, sorts != 0);
    return 0.0;
  });
  return graph;
}

/// Computes the graph for its number of rows, from row `first` on, and so on as peers_route().
/// Returns the seconds of computing alone: neither of copying logits into it nor of copying results
/// to `ids` and `weights`, (rows of the model, top_k) each, which may be null; -1 if it failed.
double peers_ggml(void* graph, int model, int first, int calls, int threads, std::int32_t* ids,
                  float* weights) {
  return peers::guarded([&] {
    auto& g = *static_cast<peers::Graph*>(graph);
    peers::library->use_threads(threads);
    const auto& m = peers::library->models[static_cast<std::size_t>(model)];
    double seconds = 0.0;
    for (int call = 0; call < calls; ++call, first += g.rows()) {
      if (first == m.rows) first = 0;
      g.load(m.logits.data() + static_cast<std::ptrdiff_t>(first) * m.numbers.experts);
      const double start = peers::now(threads);
      g.compute();
      seconds += peers::now(threads) - start;
      if (ids == nullptr) continue;
      const std::ptrdiff_t place = static_cast<std::ptrdiff_t>(first) * m.numbers.top_k;
      g.read(ids + place, weights + place);
    }
    return seconds;
  });
}

}  // extern "C"

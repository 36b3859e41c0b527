extern const fd::TabulatedNull null;  // fitted on log_softmax
extern const float* logits;           // (n_tokens, 64)
extern const std::ptrdiff_t n_tokens;
extern std::int32_t* ids;     // (n_tokens, capacity)
extern float* weights;        // (n_tokens, capacity)
extern std::int32_t* counts;  // (n_tokens)
extern float* dense;          // (n_tokens, 64)
extern const Eigen::MatrixXf gate;    // (experts, hidden)
extern const Eigen::MatrixXf hidden;  // (tokens, hidden)
struct ThreadPool {
  template <class Work>
  void run(std::ptrdiff_t n, const Work& work) {
    for (std::ptrdiff_t i = 0; i < n; ++i) work(i);
  }
};
extern ThreadPool engine_pool;
extern const fd::RoutingView<std::int32_t> routing_view;
extern const float* expert_rows;
std::span<float> output_row(std::ptrdiff_t token);

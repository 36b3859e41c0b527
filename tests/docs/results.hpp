extern const fd::Router<fd::TopK> router;
extern const float* const logits;
extern const std::ptrdiff_t n_tokens;
void run_expert(int expert, std::ptrdiff_t token, float weight);

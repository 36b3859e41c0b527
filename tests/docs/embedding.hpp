extern const fd::AnyRouter router_;
extern const std::vector<float> logits_;
extern std::vector<std::int32_t> expert_ids_;
extern std::vector<float> expert_weights_;
extern std::vector<std::int32_t> expert_counts_;
extern const int experts;
extern const int tokens;
extern const fd::Padding padding;

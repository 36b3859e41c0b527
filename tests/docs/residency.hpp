extern const fd::LogitsView<float> logits;  // (tokens, 64)
extern std::int32_t* ids;                   // (tokens, capacity)
extern float* weights;                      // (tokens, capacity)
extern std::int32_t* counts;                // (tokens)
extern const std::uint64_t* mask_words;

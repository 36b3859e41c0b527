extern const fd::RoutingView<std::int32_t> routing;
extern const std::ptrdiff_t n_tokens;

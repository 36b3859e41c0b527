extern const fd::Router<fd::TopK> router;
extern const fd::TabulatedNull null;
extern const Eigen::MatrixXf gate;     // (experts, hidden)
extern const Eigen::MatrixXf hidden;   // (tokens, hidden)
extern const Eigen::MatrixXf logits_;  // (tokens, experts)

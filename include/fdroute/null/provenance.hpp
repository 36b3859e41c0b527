#pragma once

#include <cstdint>
#include <string>

namespace fdroute::inline v0 {

/// Where a fitted null distribution comes from. `score` is binding: a Router refuses a null that
/// was fitted on another score than its own. The rest is for the reader.
struct NullProvenance {
  std::string score{};      ///< name of the score it was fitted on, "log_softmax" for instance
  std::string model{};      ///< checkpoint whose logits were used
  int layer = 0;            ///< MoE layer within the model
  int trim = 0;             ///< largest scores of each token left out of the fit; 0: none
  std::int64_t tokens = 0;  ///< tokens the fit used; 0: not recorded
};

}  // namespace fdroute::inline v0

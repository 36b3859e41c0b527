#pragma once

#include <nlohmann/json.hpp>

#include "measure/discoveries.hpp"
#include "measure/estimates.hpp"
#include "measure/evaluation.hpp"
#include "measure/permuted_control.hpp"

namespace olmoe {

/// {"value", "error"}; the error is null where it could not be estimated.
nlohmann::ordered_json to_json(const Estimate& estimate);

nlohmann::ordered_json to_json(const ExpertLoads& loads);

/// An evaluation as JSON; "loads" is there if it has any. The names are those of
/// docs/experiments.md; what was not measured is null.
nlohmann::ordered_json to_json(const Evaluation& evaluation);

/// {"mean", "std"}.
nlohmann::ordered_json to_json(const CountMoments& moments);

/// {"selected", "at_least"}.
nlohmann::ordered_json to_json(const Discoveries& discoveries);

/// The losses alone: {"mean_experts", "documents"}, the latter (texts) x (documents) x [predicted
/// tokens, sum of their negative log likelihoods].
nlohmann::ordered_json losses_json(const Evaluation& evaluation);

}  // namespace olmoe

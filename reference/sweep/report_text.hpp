#pragma once

#include <optional>
#include <string>

#include "measure/non_inferiority.hpp"

/// How a report writes numbers and names.
namespace olmoe {

/// A number with `digits` behind the point.
std::string fixed(double value, int digits);

/// A share as "12.5 %".
std::string percent(double share, int digits = 1);

/// "0.0043 ± 0.0012"; a dash where nothing was measured, no error with a single document.
std::string with_error(const std::optional<DocumentMean>& mean, int digits);

/// A text in a line or a table, as it is: what Markdown would take for its own is escaped.
std::string cell(const std::string& text);

/// A text as code, with as many backticks around it as its own ask for.
std::string code(const std::string& text);

}  // namespace olmoe

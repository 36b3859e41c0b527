#include "sweep/report_text.hpp"

#include <array>
#include <cstdio>

namespace olmoe {

std::string fixed(double value, int digits) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}

std::string percent(double share, int digits) {
  return fixed(100.0 * share, digits) + " %";
}

std::string with_error(const std::optional<DocumentMean>& mean, int digits) {
  if (!mean) return "–";
  return fixed(mean->value, digits) +
         (mean->documents > 1 ? " ± " + fixed(mean->error, digits) : "");
}

std::string cell(const std::string& text) {
  std::string result;
  for (const char c : text) result.append(c == '|' ? "\\|" : std::string(1, c));
  return result;
}

std::string code(const std::string& text) {
  return "`" + text + "`";
}

}  // namespace olmoe

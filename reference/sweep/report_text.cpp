#include "sweep/report_text.hpp"

#include <array>
#include <cstdio>
#include <string_view>

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
  for (const char c : text) {
    if (std::string_view("\\`*<[|").find(c) != std::string_view::npos) result += '\\';
    result += c;
  }
  return result;
}

std::string code(const std::string& text) {
  std::string fence = "`";
  while (text.find(fence) != std::string::npos) fence += '`';
  // A blank at both ends, which Markdown drops, keeps the text's own backticks from the fence.
  const std::string space = fence.size() == 1 ? "" : " ";
  return fence + space + text + space + fence;
}

}  // namespace olmoe

#include "sweep/results_table.hpp"

#include <doctest/doctest.h>

#include <sstream>
#include <string>
#include <vector>

#include "reference/sound_sweep.hpp"

namespace {

std::vector<std::string> split_lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

}  // namespace

TEST_CASE("the table has a line for each row and fits any terminal") {
  const SmallSweep sweep;
  olmoe::SweepResults results = olmoe::read_results(sweep.directory());
  REQUIRE(results.rows.size() == 2);
  results.rows[1].configuration.name = "a_name_that_is_much_longer_than_a_narrow_terminal_is_wide";
  results.rows[1].against_topk = olmoe::DocumentMean{12, -0.05, 0.01};
  for (const std::size_t columns : {12U, 20U, 40U, 80U, 200U}) {
    CAPTURE(columns);
    const auto lines = split_lines(olmoe::results_table(results, columns, false));
    REQUIRE(lines.size() == 3);
    for (const std::string& line : lines) {
      CAPTURE(line);
      CHECK(line.size() <= columns);
    }
    CHECK((lines[0].find("experts") != std::string::npos) == (columns >= 40));
    CHECK((lines[0].find("nats over top-k") != std::string::npos) == (columns >= 80));
  }
  const auto wide = split_lines(olmoe::results_table(results, 200, false));
  CHECK(wide[1].starts_with("topk_1_baseline "));
  CHECK(wide[1].find(" 1.000 ") != std::string::npos);
  CHECK(wide[2].find(" 1.500 ") != std::string::npos);
  CHECK(wide[2].ends_with(" -0.0500 +- 0.0100"));

  // Bold: the head and the row that is better than top-k by two errors.
  const auto bold = split_lines(olmoe::results_table(results, 200, true));
  CHECK(bold[0] == "\033[1m" + wide[0] + "\033[0m");
  CHECK(bold[1] == wide[1]);
  CHECK(bold[2] == "\033[1m" + wide[2] + "\033[0m");
  // One document has no error, and shows nothing.
  results.rows[1].against_topk = olmoe::DocumentMean{1, -0.05, 0.0};
  const auto one = split_lines(olmoe::results_table(results, 200, true));
  CHECK(one[2].ends_with(" -0.0500"));
  CHECK(one[2].find('\033') == std::string::npos);
  results.rows[1].against_topk = olmoe::DocumentMean{12, -0.05, 0.03};
  CHECK(split_lines(olmoe::results_table(results, 200, true))[2].find('\033') == std::string::npos);
}

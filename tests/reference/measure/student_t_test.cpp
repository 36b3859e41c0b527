#include "measure/student_t.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>

TEST_CASE("Tails and quantiles of Student's t are scipy's") {
  std::ifstream file(FDROUTE_SOURCE_DIR "/tests/golden/student_t.csv");
  std::string line;
  REQUIRE(std::getline(file, line));
  REQUIRE(line == "function,argument,df,value");
  int lines = 0;
  while (std::getline(file, line)) {
    CAPTURE(line);
    ++lines;
    std::istringstream fields(line);
    std::string function;
    std::string argument;
    std::string df;
    std::string value;
    std::getline(fields, function, ',');
    std::getline(fields, argument, ',');
    std::getline(fields, df, ',');
    std::getline(fields, value);
    const double expected = std::stod(value);
    const double got = function == "tail"
                           ? olmoe::student_t_upper_tail(std::stod(argument), std::stod(df))
                           : olmoe::student_t_quantile(std::stod(argument), std::stod(df));
    CHECK(std::abs(got - expected) <= 1e-11 * std::abs(expected) + 1e-15);
  }
  CHECK(lines == 264);
}

TEST_CASE("Student's t at its ends") {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  CHECK(olmoe::student_t_upper_tail(0.0, 5.0) == 0.5);
  CHECK(olmoe::student_t_upper_tail(infinity, 5.0) == 0.0);
  CHECK(olmoe::student_t_upper_tail(-infinity, 5.0) == 1.0);
}

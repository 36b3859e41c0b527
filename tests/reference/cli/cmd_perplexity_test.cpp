// olmoe perplexity

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "reference/run_olmoe.hpp"
#include "reference/temp_dir.hpp"

TEST_CASE("perplexity --json holds what the table shows") {
  const TempDir directory;
  const std::string text =
      directory.write("text.txt", read(nano / "text/bible.txt").substr(0, 1000)).string();
  const std::vector<std::string> command{"perplexity", "-m", nano.string(), "-f", text,
                                         "--window",   "32", "-t",          "1"};
  std::vector<std::string> with_json = command;
  with_json.emplace_back("--json");
  const Outcome table = run_olmoe(command);
  const Outcome json = run_olmoe(with_json);
  REQUIRE(json.code == 0);
  const auto document = nlohmann::json::parse(json.out);
  CHECK(document["schema"] == "fdroute-olmoe/1");
  CHECK(document["command"] == "perplexity");
  CHECK(document["model"] == nano.string());
  const auto& total = document["evaluation"]["total"];
  char row[64];
  std::snprintf(row, sizeof row, "%.4f +- %.4f", total["perplexity"]["value"].get<double>(),
                total["perplexity"]["error"].get<double>());
  CHECK(table.out.find(row) != std::string::npos);
  CHECK(table.out.find(document["policy"].get<std::string>()) != std::string::npos);
}

// What a sweep's report says is true: SmallSweep's one adaptive row has 1.5 experts, and its twelve
// documents cost 0.085 to 0.115 nats per token more than with the baseline, which has 1: 0.1 on
// average, with an error of 0.0028.

#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "formats/atomic_file.hpp"
#include "reference/sound_sweep.hpp"
#include "sweep/claims.hpp"
#include "sweep/provenance.hpp"
#include "sweep/report_text.hpp"
#include "sweep/sweep_files.hpp"
#include "sweep/sweep_results.hpp"

namespace {

using Json = nlohmann::ordered_json;

/// The results of a small sweep with some of their values replaced.
class EditedSweep {
 public:
  EditedSweep() : results_(olmoe::read_results(sweep_.directory())) {}

  EditedSweep& baseline_mean(double mean) {
    for (olmoe::SweepRow& row : results_.rows) row.reduction = 1.0 - row.mean_experts / mean;
    return *this;
  }
  EditedSweep& margin(double ratio) {
    results_.plan.inputs["margin"] = ratio;
    return *this;
  }
  EditedSweep& documents(std::int64_t n) {
    for (olmoe::SweepRow& row : results_.rows) row.delta.documents = n;
    return *this;
  }

  olmoe::SweepResults& results() { return results_; }
  std::string report() const { return olmoe::report(results_, olmoe::Pictures::none); }

 private:
  SmallSweep sweep_;
  olmoe::SweepResults results_;
};

bool says(const std::string& report, const std::string& words) {
  return report.find(words) != std::string::npos;
}

}  // namespace

TEST_CASE("A row's difference to the baseline is the mean over documents") {
  const olmoe::SweepRow row = EditedSweep().results().rows.at(1);
  CHECK(row.delta.documents == 12);
  CHECK(row.delta.value == doctest::Approx(0.1));
  // Twelve equidistant values from 0.085 to 0.115: sd = 0.03 / 11 sqrt(13).
  CHECK(row.delta.error == doctest::Approx(0.03 / 11.0 * std::sqrt(13.0) / std::sqrt(12.0)));
  REQUIRE(row.dealt);
  CHECK(row.dealt->shuffles == 2);
  CHECK(row.dealt->nll.value == 0.0);
}

TEST_CASE("A saving is claimed if the costs are below the margin, and only then") {
  // Upper 95 % bound 0.1 + 1.796 x 0.0028 = 0.1051: between ln 1.11 = 0.1044 and ln 1.112 = 0.1062.
  const std::string claim = "the largest saving claimed is 25.0 %, `top_p_mean2`";
  CHECK(says(EditedSweep().baseline_mean(2.0).margin(1.112).report(), claim));
  const std::string worse = EditedSweep().baseline_mean(2.0).margin(1.11).report();
  CHECK_FALSE(says(worse, claim));
  CHECK(says(worse, "No saving is claimed"));
  // More experts than the baseline are no saving, whatever they cost.
  CHECK(says(EditedSweep().margin(1.112).report(), "No saving is claimed"));
}

TEST_CASE("A report begins with its verdict") {
  const std::string claimed = EditedSweep().baseline_mean(2.0).margin(1.112).report();
  // Top-2 was measured at 1.5 experts' right side only if top-1 was, which is the baseline.
  CHECK(says(
      claimed,
      "**Verdict.** `top_p_mean2` takes 1.50 experts, 25.0 % fewer than the model's own "
      "routing, and loses 0.1000 ± 0.0028 nats per token: non-inferior at a margin of 0.1062."));
  CHECK(claimed.find("**Verdict.**") < claimed.find("## "));
  EditedSweep rivals;
  olmoe::SweepRow& row = rivals.baseline_mean(2.0).margin(1.112).results().rows.at(1);
  row.against_topk = olmoe::DocumentMean{12, -0.03, 0.002};
  row.against_threshold = olmoe::DocumentMean{12, 0.01, 0.004};
  CHECK(says(rivals.report(),
             "At its cost randomised top-k loses 0.1300, a difference of -0.0300 ± "
             "0.0020. At its cost the plain threshold loses 0.0900, a difference "
             "of 0.0100 ± 0.0040."));
  CHECK(says(EditedSweep().baseline_mean(2.0).margin(1.11).report(),
             "**Verdict.** No saving is claimed.\n"));
  CHECK(says(EditedSweep().baseline_mean(2.0).margin(1.2).documents(9).report(),
             "**Verdict.** No saving is claimed, as with fewer than 10 documents none can be."));
}

TEST_CASE("A report says what model, which command, and who wrote it when") {
  EditedSweep sweep;
  const std::string report = sweep.report();
  CHECK(says(report, "SHA-256 `0123456789abcdef0123`"));
  CHECK(says(report,
             "`olmoe sweep --model DIR --grid FILE --window 64 --stride 64 --new-tokens 3 "
             "--margin 1.005 --shuffles 2 --compute f32`, by fdroute 0.1.0"));
  CHECK(says(report, olmoe::provenance_text(olmoe::provenance())));
  CHECK(olmoe::full_results(sweep.results()).at("written") == olmoe::provenance());
}

TEST_CASE("Top-k's curve stands in the table of a grid that has no rows of it") {
  EditedSweep sweep;
  CHECK_FALSE(says(sweep.report(), "| top-k |"));
  sweep.results().curve = {{1.0, 4.5}, {2.0, 4.25}, {3.0, 4.125}};
  CHECK(says(sweep.report(),
             "| top-k | 1 | 2 | 3 |\n|---|---:|---:|---:|\n"
             "| perplexity | 4.500 | 4.250 | 4.125 |\n"));
}

TEST_CASE("With few documents a report is descriptive") {
  const std::string few = EditedSweep().baseline_mean(2.0).margin(1.2).documents(9).report();
  CHECK(says(few, "**Descriptive.** With fewer than 10 documents nothing is claimed."));
  CHECK(says(few, "No saving is claimed"));
  const std::string one = EditedSweep().baseline_mean(2.0).margin(1.2).documents(1).report();
  CHECK(says(one, "**Descriptive.**"));
  CHECK(says(one, "`bh_mean3` was not reached"));
}

TEST_CASE("A report has the lower bound on true discoveries where there are null distributions") {
  EditedSweep sweep;
  CHECK(says(sweep.report(), "| `top_p_mean2` | 1.50 | 0.75 | 50.0 % |"));
  for (olmoe::SweepRow& row : sweep.results().rows) row.result["discoveries"] = nullptr;
  CHECK_FALSE(says(sweep.report(), "## True discoveries"));
}

TEST_CASE("Names in a report are what they are, whatever Markdown thinks of them") {
  CHECK(olmoe::cell("a_b.txt") == "a_b.txt");
  CHECK(olmoe::cell("a|b `c` *d* [e] <f> \\") == "a\\|b \\`c\\` \\*d\\* \\[e] \\<f> \\\\");
  CHECK(olmoe::code("top_p") == "`top_p`");
  CHECK(olmoe::code("a`b") == "`` a`b ``");
  CHECK(olmoe::code("a``b") == "``` a``b ```");
  EditedSweep sweep;
  sweep.results().rows.front().result["evaluation"]["domains"][0]["name"] = "a`b.txt";
  CHECK(says(sweep.report(), "* Text: a\\`b.txt; "));
}

TEST_CASE("A row that is another again is no hypothesis of its own") {
  EditedSweep sweep;
  auto& rows = sweep.results().rows;
  olmoe::SweepRow again = rows.at(1);
  again.configuration.name = "again";
  again.repeats = rows.at(1).configuration.name;
  rows.push_back(again);
  const auto families = olmoe::test_families(rows, 0.2);
  REQUIRE(families.size() == 1);
  CHECK(families.front().rows.size() == 1);
  CHECK(families.front().rows.front().claimed);
  CHECK(says(sweep.report(), "`again` is `top_p_mean2` again, and counted once"));
}

TEST_CASE("Rows with a fitted exponent stand against top-k with one of its own") {
  const olmoe::Config config = small_config();
  const TempDir dir;
  const olmoe::SweepDirectory directory(dir.path() / "sweep");
  olmoe::SweepPlan plan = sound_plan(config);
  plan.configurations.push_back(
      {.name = "topk_2", .family = "top-k", .policy = "topk:k=2", .nulls = {}, .target = {}});
  plan.configurations.push_back({.name = "topk_mass_mean2",
                                 .family = "topk_mass",
                                 .policy = "topk:k=2",
                                 .nulls = {},
                                 .target = 2,
                                 .fit_mass = true});
  plan.configurations.push_back({.name = "bh_mass_mean2",
                                 .family = "bh_mass",
                                 .policy = "bh:alpha=?",
                                 .nulls = {},
                                 .target = 2,
                                 .fit_mass = true});
  directory.write_plan(plan);
  const auto& c = plan.configurations;
  const auto mean_of_2 = [](Json result) {
    result["evaluation"]["total"]["routing"]["experts"]["mean"] = 2.0;
    return result;
  };
  directory.write_result(plan, c[0], sound_result(config, c[0]));
  directory.write_result(plan, c[1], mean_of_2(sound_result(config, c[1])));
  Json by_mass = mean_of_2(sound_result(config, c[2]));  // a loss of 1.45, not 1.5
  by_mass["policy"] = "topk:k=2,min_k=1,mass_exponent=0.3,mass_k=8";
  for (Json& window : by_mass["evaluation"]["domains"][0]["windows"])
    window[1] = 1.45 * window[0].get<double>();
  directory.write_result(plan, c[2], by_mass);
  directory.write_result(plan, c[3], sound_result(config, c[3], true));  // 1.6 at 1.5 experts

  const olmoe::SweepResults results = olmoe::read_results(directory);
  CHECK(results.curve.at(2.0) == doctest::Approx(std::exp(1.5)));  // plain top-k's alone
  const olmoe::SweepRow& topk = results.rows.at(2);
  const olmoe::SweepRow& bh = results.rows.at(3);
  REQUIRE(topk.against_topk);
  CHECK(topk.against_topk->value == doctest::Approx(-0.05));
  CHECK_FALSE(topk.against_topk_mass);
  REQUIRE(bh.against_topk_mass);
  CHECK(bh.against_topk_mass->value == doctest::Approx(0.15));
  const std::string report = olmoe::report(results, olmoe::Pictures::none);
  CHECK(says(report, "| `topk_mass_mean2` | 2.00 | 0.3 | 0.9512 ± 0.0000 | – | – |"));
  CHECK(says(report, "| `bh_mass_mean2` | 1.50 | 0 | 1.1052 ± 0.0031 | 1.1618 ± 0.0033 |"));
}

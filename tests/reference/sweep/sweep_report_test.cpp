// What a sweep's report says is true: SmallSweep's one adaptive row has 1.5 experts, and losses
// that are 0.1 +- 0.02 above the baseline's, which has 1.

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "formats/atomic_file.hpp"
#include "reference/sound_sweep.hpp"
#include "sweep/sweep_files.hpp"
#include "sweep/sweep_results.hpp"

namespace {

using Json = nlohmann::ordered_json;

/// A small sweep with some of its values replaced.
class EditedSweep {
 public:
  EditedSweep& set(const std::string& configuration, const std::string& pointer,
                   const Json& value) {
    const auto file = sweep_.directory().config_file(configuration);
    Json json = olmoe::read_sweep_file(file);
    json.at(Json::json_pointer("/result/evaluation/total" + pointer)) = value;
    olmoe::write_atomically(file, json.dump());
    return *this;
  }

  EditedSweep& baseline_mean(double mean) {
    return set("topk_1_baseline", "/routing/experts/mean", mean);
  }
  EditedSweep& nll_difference(double value, const Json& error) {
    return set("top_p_mean2", "/baseline/nll_difference", {{"value", value}, {"error", error}});
  }

  std::string report() const {
    return olmoe::report(olmoe::read_results(sweep_.directory()), olmoe::Pictures::none);
  }

 private:
  SmallSweep sweep_;
};

bool says(const std::string& report, const char* words) {
  return report.find(words) != std::string::npos;
}

}  // namespace

TEST_CASE("a report says of rows with fewer experts how their perplexity stands") {
  const char* const none_has_fewer =
      "No adaptive configuration has fewer experts than the baseline";
  const char* const all_are_worse = "each is above it by more than two standard errors";
  const char* const one_is_as_good = "not distinguishably above the baseline's: `top_p_mean2`";

  const std::string more = EditedSweep().report();
  CHECK(says(more, none_has_fewer));
  CHECK_FALSE(says(more, all_are_worse));
  const std::string worse = EditedSweep().baseline_mean(2.0).report();
  CHECK(says(worse, all_are_worse));
  CHECK_FALSE(says(worse, none_has_fewer));
  const std::string as_good = EditedSweep().baseline_mean(2.0).nll_difference(0.1, 0.06).report();
  CHECK(says(as_good, one_is_as_good));
  CHECK_FALSE(says(as_good, all_are_worse));
}

TEST_CASE("without standard errors, as with one window, a report claims nothing from them") {
  for (const double baseline_mean : {1.0, 2.0}) {
    const std::string report =
        EditedSweep().baseline_mean(baseline_mean).nll_difference(0.1, nullptr).report();
    CHECK(says(report, "A text has only one window, so no difference has a standard error"));
    CHECK_FALSE(says(report, "two standard errors"));
    CHECK(says(report, "`bh_mean3` was not reached"));
  }
}

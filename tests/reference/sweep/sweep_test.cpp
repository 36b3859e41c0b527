#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "formats/atomic_file.hpp"
#include "measure/equal_cost.hpp"
#include "measure/null_control.hpp"
#include "reference/error_of.hpp"
#include "reference/sound_sweep.hpp"
#include "reference/temp_dir.hpp"
#include "routing/canonical_policy.hpp"
#include "routing/parse_once.hpp"
#include "routing/routing.hpp"
#include "sweep/grid.hpp"
#include "sweep/plots.hpp"
#include "sweep/progress.hpp"
#include "sweep/prompts.hpp"
#include "sweep/sweep_plan.hpp"

namespace {

using olmoe::Configuration;

olmoe::Config config_of(int experts, int native_k) {
  olmoe::Config config{};
  config.num_hidden_layers = 2;
  config.num_experts = experts;
  config.num_experts_per_tok = native_k;
  return config;
}

std::string read(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::string in_full(const std::string& policy) {
  return olmoe::policy_of(olmoe::make_routers(config_of(64, 8), policy, std::filesystem::path()));
}

}  // namespace

TEST_CASE("Grid bh21 is the baseline and twenty BH configurations") {
  const auto grid = olmoe::bh21_grid(config_of(64, 8));
  REQUIRE(grid.size() == 21);
  CHECK(grid.front().name == "topk_8_baseline");
  CHECK(grid.front().policy == "native");
  CHECK(grid[6].name == "bh_k8_a005");
  CHECK(grid[6].policy == "bh:alpha=0.05,min_k=1,max_k=8");
  CHECK(grid.back().name == "bh_k64_a020");
  CHECK_NOTHROW(olmoe::check_names_unique(grid));

  CHECK(olmoe::bh21_grid(config_of(64, 2)).front().name == "topk_2_baseline");
  CHECK(error_of([] {
          olmoe::bh21_grid(config_of(60, 8));
        }).starts_with("grid bh21 caps at up to 64 experts, the model has 60"));
}

TEST_CASE("Grid frontier has top-k for k = 1 ... 16 and every family at every target") {
  const auto grid = olmoe::frontier_grid(config_of(64, 8));
  CHECK_NOTHROW(olmoe::check_names_unique(grid));
  std::set<std::string> names;
  for (const Configuration& c : grid) {
    names.insert(c.name);
    CHECK(c.target.has_value() == (c.policy.find('?') != std::string::npos));
  }
  for (int k = 1; k <= 16; ++k)
    CHECK(names.contains("topk_" + std::to_string(k) + (k == 8 ? "_baseline" : "")));
  CHECK(grid.size() == 16 + 5 * 14);
  CHECK(names.contains("bh_logit_trim0_mean4"));
  CHECK(names.contains("bh_log_softmax_trim8_mean3"));
  CHECK(names.contains("top_p_mean7"));
  CHECK(error_of([] { olmoe::frontier_grid(config_of(8, 2)); }) ==
        "grid frontier needs a model of at least 16 experts, this one has 8");
}

TEST_CASE("The key of a fitted null says score and trim") {
  const auto key = olmoe::FittedNullKey::parse("log_softmax_trim12");
  CHECK(key.score == "log_softmax");
  CHECK(key.trim == 12);
  CHECK(key.text() == "log_softmax_trim12");
}

TEST_CASE("A grid file is read line by line") {
  const TempDir dir;
  const auto config = config_of(64, 8);
  const auto grid = olmoe::file_grid(
      dir.write("grid", "# comment\n\n topk:k=3 # three\r\nbh:alpha=0.1,null=normal\ntopk:k=8\n"),
      config, in_full);
  REQUIRE(grid.size() == 3);  // the last line is the baseline
  CHECK(grid[0].name == "topk_8_baseline");
  CHECK(grid[1].policy == "topk:k=3");
  CHECK(grid[1].name.starts_with("topk_k=3_"));
  CHECK(grid[2].family == "bh");
  CHECK(grid[2].name == olmoe::policy_name(in_full("bh:alpha=0.1,null=normal")));

  const auto error = [&](const char* text) {
    const auto path = dir.write("grid", text);
    return error_of([&] { olmoe::file_grid(path, config, in_full); });
  };
  const std::string file = (dir.path() / "grid").string();
  CHECK(error("topk:k=3\ntopk:k=3,min_k=1\n") == file + ", line 2: is the policy of line 1");
  CHECK(error("topk:k=65\n").starts_with(file + ", line 1: policy 'topk:k=65'"));
  CHECK(error("# nothing\n") == file + ": holds no policy");
}

TEST_CASE("Names of policies are fit for files and tell long policies apart") {
  CHECK(olmoe::policy_name("bh:alpha=0.1/0.2,max_k=8") == "bh_alpha=0.1+0.2_max_k=8");
  const std::string many(300, '1');
  const std::string a = olmoe::policy_name("bh:alpha=0." + many + "1");
  const std::string b = olmoe::policy_name("bh:alpha=0." + many + "2");
  CHECK(a != b);
  CHECK(a.size() <= 120);
  Configuration twin{.name = "a", .family = {}, .policy = {}, .nulls = {}, .target = {}};
  CHECK(error_of([&] {
          olmoe::check_names_unique({twin, twin});
        }) == "two configurations of the grid are called 'a'");
}

TEST_CASE("Equal cost: log perplexity is interpolated between integer k") {
  // Two texts; 10 + 10 and 20 tokens. Mean losses: k = 4: 2.0, k = 5: 1.5, the policy: 1.6.
  const olmoe::LossWindows four{{{10, 22.0}, {10, 18.0}}, {{10, 20.0}, {10, 20.0}}};
  const olmoe::LossWindows five{{{10, 16.0}, {10, 14.0}}, {{10, 15.0}, {10, 15.0}}};
  const olmoe::LossWindows policy{{{10, 17.0}, {10, 15.0}}, {{10, 16.0}, {10, 16.0}}};
  olmoe::TopKCurve curve;
  curve.add(4, four);
  curve.add(5, five);

  CHECK(curve.perplexities().at(4) == doctest::Approx(std::exp(2.0)));
  CHECK(curve.ratio(policy, 4.0)->value == doctest::Approx(std::exp(-0.4)));
  CHECK(curve.ratio(policy, 5.0)->value == doctest::Approx(std::exp(0.1)));
  // At 4.5, top-k has log perplexity 1.75.
  CHECK(curve.ratio(policy, 4.5)->value == doctest::Approx(std::exp(1.6 - 1.75)));
  CHECK_FALSE(curve.ratio(policy, 3.99).has_value());
  CHECK_FALSE(curve.ratio(policy, 5.01).has_value());

  // Differences to k = 5 are 1 in all four windows: no error. To k = 4 they are -5, -3, -4, -4: the
  // first text's mean -0.4 has error^2 = 2 x (1 + 1) / 20^2 = 0.01, which weighs (20 / 40)^2.
  CHECK(*curve.ratio(policy, 5.0)->error == doctest::Approx(0.0).epsilon(1e-9));
  CHECK(*curve.ratio(policy, 4.0)->error == doctest::Approx(std::exp(-0.4) * 0.05));
  CHECK_FALSE(olmoe::perplexity_ratio({{{10, 17.0}}}, {{{10, 22.0}}}).error.has_value());
}

TEST_CASE("The null control: BH rejects anything on a share alpha of independent noise") {
  for (const double alpha : {0.05, 0.2}) {
    CAPTURE(alpha);
    const std::vector routers{
        fdroute::parse_router("bh:null=normal,min_k=2,max_k=8,alpha=" + std::to_string(alpha), 64)};
    const auto noise = olmoe::null_control(routers);
    REQUIRE(noise.has_value());
    // Simes' equality; four standard errors of 20000 rows.
    CHECK(std::abs(noise->rejecting - alpha) < 4.0 * std::sqrt(alpha * (1.0 - alpha) / 20000.0));
    CHECK(noise->mean >= 2.0);
    CHECK(noise->mean < 2.2);
  }
  CHECK_FALSE(olmoe::null_control(std::vector{fdroute::parse_router("topk:k=2", 64)}).has_value());
}

TEST_CASE("A canonical policy comes apart and together") {
  const auto router = fdroute::parse_router("topk:k=2,temperature=0.5,renormalize=true", 8);
  const olmoe::CanonicalPolicy policy(router.policy());
  CHECK(policy.name == "topk");
  CHECK(policy.arguments.at("k") == "2");
  CHECK(fdroute::parse_router(policy.text(), 8).policy() == router.policy());
}

TEST_CASE("A plan survives its file, and everything in it is in the fingerprint") {
  const TempDir dir;
  const olmoe::SweepDirectory directory(dir.path());
  olmoe::SweepPlan plan = sound_plan(config_of(64, 8));
  plan.configurations = olmoe::frontier_grid(config_of(64, 8));
  directory.write_plan(plan);
  const olmoe::SweepPlan back = directory.read_plan();
  CHECK(olmoe::difference(plan, back).empty());

  std::set<std::string> fingerprints;
  for (const Configuration& c : plan.configurations) {
    fingerprints.insert(plan.fingerprint(c));
    CHECK(plan.fingerprint(c).size() == 64);
  }
  CHECK(fingerprints.size() == plan.configurations.size());

  const Configuration& first = plan.baseline();
  const auto result = sound_result(config_of(64, 8), first);
  directory.write_result(plan, first, result);
  CHECK(directory.read_result(plan, first) == result);
  olmoe::SweepPlan other = plan;
  other.inputs["window"] = 32;
  CHECK(olmoe::difference(plan, other) == "inputs.window is 64, there it is 32");
  CHECK(error_of([&] {
          directory.read_result(other, first);
        }).find("was measured under another plan") != std::string::npos);

  CHECK(error_of([&] { directory.check_no_strangers(plan); }) == "no error");
  plan.configurations.erase(plan.configurations.begin());
  CHECK(error_of([&] {
          directory.check_no_strangers(plan);
        }).find("is no configuration of this sweep") != std::string::npos);
  CHECK(error_of([&] {
          olmoe::check_complete(other, "here",
                                [](const std::string& name) { return name != "topk_8_baseline"; });
        }) == "here: 1 of 86 configurations are missing: topk_8_baseline");
}

TEST_CASE("Files are written whole, and failures name the file") {
  const TempDir dir;
  olmoe::write_atomically(dir.path() / "file", "one");
  olmoe::write_atomically(dir.path() / "file", "two");
  CHECK(read(dir.path() / "file") == "two");
  CHECK(std::distance(std::filesystem::directory_iterator(dir.path()), {}) == 1);

  // What dead processes left of the file goes, what a living one writes stays, and so do others'.
  const std::string living = "file.tmp" + std::to_string(::getppid());
  for (const std::string& name :
       {std::string("file.tmp999999999"), std::string("file.tmp999999998"), living,
        std::string("other.tmp999999999"), std::string("file.tmp9x")})
    dir.write(name, "half");
  olmoe::write_atomically(dir.path() / "file", "three");
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(dir.path()))
    names.insert(entry.path().filename().string());
  CHECK(names == std::set<std::string>{"file", living, "other.tmp999999999", "file.tmp9x"});

  const std::string missing = (dir.path() / "none" / "file").string();
  CHECK(error_of([&] { olmoe::write_atomically(missing, "x"); }) ==
        missing + ": cannot write: No such file or directory");
}

TEST_CASE("Prompts") {
  const auto prompts = olmoe::default_prompts();
  CHECK(prompts.size() == 12);
  const TempDir dir;
  const auto read_back = olmoe::read_prompts(dir.write("p", R"([{"class": "a", "text": "b"}])"));
  REQUIRE(read_back.size() == 1);
  CHECK(read_back[0].group == "a");
  CHECK(read_back[0].text == "b");
  for (const char* bad : {"[]", "{}", R"([{"class": "a"}])", R"([{"class": "a", "text": ""}])",
                          R"([{"class": "a", "text": "b", "more": 1}])"})
    CHECK(error_of([&] { olmoe::read_prompts(dir.write("p", bad)); }) != "no error");
}

TEST_CASE("Durations are for reading") {
  CHECK(olmoe::duration_text(41.6) == "42 s");
  CHECK(olmoe::duration_text(200.0) == "3 min 20 s");
  CHECK(olmoe::duration_text(7500.0) == "2 h 5 min");
}

TEST_CASE("The gnuplot script holds all data") {
  const olmoe::PlotData data{.title = "a_b",
                             .top_k = {{1, 30.0}, {2, 20.0}},
                             .native_k = 2,
                             .families = {{"bh", {{1.5, 24.0, 0.98, 0.01}, {1.2, 28.0, {}, {}}}}},
                             .rows = {{"bh_1", {1.0, 2.0}, {0.0, 0.25, 0.75}}}};
  const std::string script = olmoe::gnuplot_script(data, "stem");
  CHECK(script.find("1.2 28 NaN NaN\n1.5 24 0.98 0.01\n") !=
        std::string::npos);  // in order of the mean
  CHECK(script.find("1 30\n2 20\n") != std::string::npos);
  CHECK(script.find("2 0 0.75") != std::string::npos);
  CHECK(script.find("title 'a_b'") != std::string::npos);
  CHECK(script.find("noenhanced") != std::string::npos);  // no subscript
}

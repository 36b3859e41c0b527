#include "sweep/grid.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <set>
#include <string>

#include "reference/error_of.hpp"
#include "reference/temp_dir.hpp"
#include "routing/routing.hpp"

namespace {

using olmoe::Configuration;

olmoe::Config shape_of(int experts, int native_k) {
  olmoe::Config config{};
  config.num_hidden_layers = 2;
  config.num_experts = experts;
  config.num_experts_per_tok = native_k;
  return config;
}

std::string in_full(const std::string& policy) {
  return olmoe::policy_of(olmoe::make_routers(shape_of(64, 8), policy, std::filesystem::path()));
}

}  // namespace

TEST_CASE("Grid bh21 is the baseline and twenty BH configurations") {
  const auto grid = olmoe::bh21_grid(shape_of(64, 8));
  REQUIRE(grid.size() == 21);
  CHECK(grid.front().name == "topk_8_baseline");
  CHECK(grid.front().policy == "native");
  CHECK(grid[5].name == "bh_k8_a020");  // a family begins with its most experts
  CHECK(grid[7].name == "bh_k8_a005");
  CHECK(grid[7].policy == "bh:alpha=0.05,min_k=1,max_k=8");
  CHECK(grid.back().name == "bh_k64_a001");
  CHECK_NOTHROW(olmoe::check_names_unique(grid));

  CHECK(olmoe::bh21_grid(shape_of(64, 2)).front().name == "topk_2_baseline");
  CHECK(error_of([] {
          olmoe::bh21_grid(shape_of(60, 8));
        }).starts_with("grid bh21 caps at up to 64 experts, the model has 60"));
}

TEST_CASE("Grid frontier has top-k for k = 1 ... 16 and every family at every target") {
  const auto grid = olmoe::frontier_grid(shape_of(64, 8));
  CHECK_NOTHROW(olmoe::check_names_unique(grid));
  std::set<std::string> names;
  for (const Configuration& c : grid) {
    names.insert(c.name);
    const bool is_fixed = c.family == olmoe::topk_mass_family;
    CHECK((c.target.has_value() && !is_fixed) == (c.policy.find('?') != std::string::npos));
    CHECK(c.fit_mass == (c.name.find("_mass_") != std::string::npos));
  }
  for (int k = 1; k <= 16; ++k)
    CHECK(names.contains("topk_" + std::to_string(k) + (k == 8 ? "_baseline" : "")));
  CHECK(grid.size() == 16 + 5 * 15 + 3 * 3);
  CHECK(names.contains("topk_mass_mean3"));
  CHECK(names.contains("threshold_mass_mean5"));
  CHECK(names.contains("bh_mass_mean4"));
  CHECK(names.contains("bh_logit_trim0_mean4"));
  CHECK(names.contains("bh_log_softmax_trim8_mean3"));
  CHECK(names.contains("top_p_mean7"));
  CHECK(error_of([] { olmoe::frontier_grid(shape_of(8, 2)); }) ==
        "grid frontier needs a model of at least 16 experts, this one has 8");
}

TEST_CASE("Rivals have the bounds and the mean of the rows that they are like") {
  const auto grid = olmoe::bh21_grid(shape_of(64, 8));
  const auto with_null = [](const std::string& policy) { return in_full(policy + ",null=normal"); };
  const auto rivals = olmoe::rivals(grid, true, with_null);
  REQUIRE(rivals.size() == 2 * 12);  // max_k 32 and 64 are 16 again
  CHECK(rivals[0].name == "threshold_like_bh_k4_a020");
  CHECK(rivals[0].policy == "threshold:t=?,min_k=1,max_k=4");
  CHECK(rivals[0].like == "bh_k4_a020");
  CHECK(rivals[1].policy == "slope:c=?,sigma=tail,min_k=1,max_k=4");
  CHECK(rivals[1].nulls == olmoe::given_nulls);
  CHECK(rivals[1].is_open());
  CHECK(olmoe::rivals(grid, false, with_null).size() == 12);
  CHECK(olmoe::rivals({grid.front()}, true, with_null).empty());

  const auto layers = olmoe::layers_curve(shape_of(64, 8));
  CHECK(layers.size() == 11);
  CHECK(layers.front().target == 2.0);
}

TEST_CASE("The key of a fitted null says score and trim") {
  const auto key = olmoe::FittedNullKey::parse("log_softmax_trim12");
  CHECK(key.score == "log_softmax");
  CHECK(key.trim == 12);
  CHECK(key.text() == "log_softmax_trim12");
}

TEST_CASE("A grid file is read line by line") {
  const TempDir dir;
  const auto config = shape_of(64, 8);
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

TEST_CASE("A line of a grid file may name its configuration") {
  const TempDir dir;
  const auto config = shape_of(64, 8);
  const auto grid =
      olmoe::file_grid(dir.write("grid",
                                 "bh_k32_mine = bh:alpha=0.1,null=normal,max_k=16 # a comment\n"
                                 "three=topk:k=3\ntopk:k=2\n"),
                       config, in_full);
  REQUIRE(grid.size() == 4);
  CHECK(grid[1].name == "bh_k32_mine");
  CHECK(grid[1].policy == "bh:alpha=0.1,null=normal,max_k=16");
  CHECK(grid[1].family == "bh");
  CHECK(!olmoe::repeats_16(grid[1]));  // the names of bh21 mean nothing elsewhere
  CHECK(grid[2].name == "three");
  CHECK(grid[2].policy == "topk:k=3");
  CHECK(grid[3].name == olmoe::policy_name(in_full("topk:k=2")));

  const auto error = [&](const char* text) {
    const auto path = dir.write("grid", text);
    return error_of([&] { olmoe::file_grid(path, config, in_full); });
  };
  const std::string file = (dir.path() / "grid").string();
  for (const char* line : {"a b = topk:k=3\n", "../a = topk:k=3\n", " = topk:k=3\n"})
    CHECK(error(line).starts_with(file + ", line 1: '"));
  CHECK(error("a = topk:k=3\na = topk:k=4\n") == "two configurations of the grid are called 'a'");
  CHECK(error("a = topk:k=3\nb = topk:k=3\n") == file + ", line 2: is the policy of line 1");
  CHECK(error("a =\n").starts_with(file + ", line 1: "));
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

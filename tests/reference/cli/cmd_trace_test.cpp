// olmoe trace: the page's structure, and its data against the model's own routing.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/trace.hpp"
#include "formats/safetensors.hpp"
#include "reference/run_olmoe.hpp"
#include "reference/temp_dir.hpp"

namespace {

using nlohmann::json;

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

/// What stands between the data's tags.
json data_of(const std::string& page) {
  const std::string begin = "<script type=\"application/json\" id=\"data\">";
  const std::size_t at = page.find(begin);
  REQUIRE(at != std::string::npos);
  const std::size_t from = at + begin.size();
  return json::parse(page.substr(from, page.find("</script>", from) - from));
}

}  // namespace

TEST_CASE("the page's data are the model's own routing, and Benjamini-Hochberg by its definition") {
  const TempDir directory;
  const std::string page = (directory.path() / "out.html").string();
  const std::string logits = (directory.path() / "logits.safetensors").string();
  const std::string text = "In the beginning God created the heaven";
  const std::string bh = "bh:alpha=0.05,min_k=1,max_k=16";
  REQUIRE(run_olmoe({"trace", "-m", nano.string(), "-p", text, "-o", page, "--route", bh, "--route",
                     "native"})
              .code == 0);
  const json data = data_of(read(page));
  CHECK(data["schema"] == "fdroute-olmoe/1");
  REQUIRE(data["policies"].size() == 2);
  std::string joined;
  for (const json& token : data["tokens"]) joined += token["text"].get<std::string>();
  CHECK(joined == text);
  const std::size_t tokens = data["tokens"].size();

  for (std::size_t p = 0; p < 2; ++p) {
    REQUIRE(run_olmoe({"logits", "-m", nano.string(), "-p", text, "-o", logits, "--route",
                       p == 0 ? bh : "native"})
                .code == 0);
    const olmoe::SafetensorsFile file(logits);
    const json& policy = data["policies"][p];
    CHECK(policy["policy"] == file.metadata().at("route"));
    for (std::size_t l = 0; l < policy["layers"].size(); ++l) {
      const json& layer = policy["layers"][l];
      const std::string suffix = "." + std::to_string(l);
      const auto counts = file.at("expert_counts" + suffix).to_int64();
      const auto experts = file.at("selected_experts" + suffix).to_int64();
      const auto weights = file.at("routing_weights" + suffix).to_float();
      const auto router = file.at("router_logits" + suffix).to_float();
      const std::size_t capacity = experts.size() / tokens;
      const std::size_t m = router.size() / tokens;
      CHECK(layer["p"].is_null() == (p == 1));
      CHECK(layer["critical"].is_null() == (p == 1));
      for (std::size_t t = 0; t < tokens; ++t) {
        REQUIRE(layer["experts"][t].size() == static_cast<std::size_t>(counts[t]));
        for (std::size_t i = 0; i < layer["experts"][t].size(); ++i) {
          CHECK(layer["experts"][t][i] == experts[t * capacity + i]);
          CHECK(layer["weights"][t][i].get<float>() == weights[t * capacity + i]);
        }
        for (std::size_t e = 0; e < m; ++e)
          CHECK(layer["logits"][t][e].get<float>() == router[t * m + e]);
        if (p == 1) continue;
        // The definition: count = max { k : p(k) <= alpha k / m }, 1 to 16.
        auto sorted = layer["p"][t].get<std::vector<double>>();
        std::ranges::sort(sorted);
        std::size_t k = 0;
        for (std::size_t i = 1; i <= m; ++i) {
          const double critical = 0.05 * static_cast<double>(i) / static_cast<double>(m);
          CHECK(layer["critical"][i - 1].get<double>() == doctest::Approx(critical).epsilon(1e-5));
          if (sorted[i - 1] <= critical) k = i;
        }
        CHECK(std::clamp<std::size_t>(k, 1, 16) == static_cast<std::size_t>(counts[t]));
      }
    }
  }
}

TEST_CASE("the page is one document that loads nothing and lets nothing out of its data") {
  const TempDir directory;
  const std::string page = (directory.path() / "out.html").string();
  const std::string text =
      "</script><script>alert(1)</script><!-- &amp; \xf0\x9f\xa6\x86 \xe2\x80\xae";
  REQUIRE(run_olmoe({"trace", "-m", nano.string(), "-p", text, "-o", page}).code == 0);
  const std::string html = read(page);
  CHECK(html.starts_with("<!doctype html>\n"));
  CHECK(html.ends_with("</html>\n"));
  for (const std::string tag : {"html", "head", "body", "style", "title"}) {
    CAPTURE(tag);
    CHECK(count(html, "<" + tag) >= 1);
    CHECK(count(html, "</" + tag + ">") == 1);
  }
  // The data and the program: no more, whatever the text says.
  CHECK(count(html, "<script") == 2);
  CHECK(count(html, "</script>") == 2);
  CHECK(html.find("alert(1)</script>") == std::string::npos);
  CHECK(html.find("<!--") == std::string::npos);
  for (const std::string loads : {"src=", "href=", "url(", "@import", "fetch(", "import("}) {
    CAPTURE(loads);
    CHECK(html.find(loads) == std::string::npos);
  }
  // The one address is a name, not a place to load from.
  CHECK(count(html, "http") == 1);
  CHECK(count(html, "\"http://www.w3.org/2000/svg\"") == 1);
  std::string joined;
  const json data = data_of(html);
  for (const json& token : data["tokens"]) joined += token["text"].get<std::string>();
  CHECK(joined.starts_with("</script><script>alert(1)</script><!-- &amp;"));
  // Tokens that are a part of a character are written as bytes, as is what reorders a line.
  CHECK(joined.find("⟨") != std::string::npos);
  CHECK(joined.find("\xe2\x80\xae") == std::string::npos);
}

TEST_CASE("bytes are readable whatever they are") {
  CHECK(olmoe::readable("a\n\tü") == "a\n\tü");
  CHECK(olmoe::readable("\xe2\x80") == "⟨E2⟩⟨80⟩");
  CHECK(olmoe::readable("\x1b\x7f\xff") == "⟨1B⟩⟨7F⟩⟨FF⟩");
  CHECK(olmoe::readable(std::string(1, '\0')) == "⟨00⟩");
  CHECK(olmoe::readable("\xe2\x80\xae") == "⟨E2⟩⟨80⟩⟨AE⟩");
}

TEST_CASE("the picture has a point for every expert and the selected ones in their colour") {
  olmoe::TracedLayer layer;
  layer.routing = {.logits = {4.0F, 1.0F, 3.0F, 2.0F},
                   .experts = {0, 2},
                   .weights = {0.6F, 0.2F},
                   .counts = {2},
                   .capacity = 2};
  layer.p = {0.001, 0.8, 0.02, 0.3};
  layer.critical = {0.0125, 0.025, 0.0375, 0.05};
  const std::string svg = olmoe::step_up_picture(layer, 0, "a <title> & more");
  CHECK(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  CHECK(svg.ends_with("</svg>\n"));
  CHECK(svg.find("a &lt;title&gt; &amp; more") != std::string::npos);
  const std::string chosen = "fill=\"#2563a8\"><title>expert ";
  const std::string other = "fill=\"#a0a6ad\"><title>expert ";
  CHECK(count(svg, chosen) == 4);  // both, in both panels
  CHECK(count(svg, chosen + "0, p = 0.001<") == 2);
  CHECK(count(svg, chosen + "2, p = 0.02<") == 2);
  CHECK(count(svg, other) >= 2);
  CHECK(count(svg, other + "1, p = 0.8<") == 1);
  CHECK(count(svg, "<polyline") == 2);
  layer.critical.clear();
  CHECK_THROWS_WITH_AS(olmoe::step_up_picture(layer, 0, ""),
                       "--svg needs a rule that compares p-values with critical values, such as bh",
                       std::invalid_argument);
}

TEST_CASE("trace is refused where there is nothing to show or no place for it") {
  const TempDir directory;
  const std::string model = nano.string();
  const std::string svg = (directory.path() / "out.svg").string();
  check_error({"trace", "-m", model, "-p", "x"}, 2, {"give --html FILE or --svg FILE"});
  check_error({"trace", "-m", model, "-p", "", "--svg", svg}, 1, {"--text: no tokens"});
  check_error({"trace", "-m", model, "-p", "x", "--svg", svg, "--token", "1"}, 2,
              {"the text has tokens 0 to 0"});
  check_error({"trace", "-m", model, "-p", "x", "--svg", svg, "--layer", "4"}, 2,
              {"layers 0 to 3"});
  check_error({"trace", "-m", model, "-p", "x", "--svg", svg, "--route", "native"}, 2,
              {"--svg needs a rule"});
  CHECK_FALSE(std::filesystem::exists(svg));
  const Outcome cut =
      run_olmoe({"trace", "-m", model, "-p", "a b c d e f", "--svg", svg, "-n", "3"});
  CHECK(cut.code == 0);
  CHECK(cut.err.starts_with("olmoe: the first 3 of "));
  CHECK(read(svg).find("token 2, ") != std::string::npos);
}

// olmoe generate

#include <doctest/doctest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "reference/cli/generate.hpp"
#include "reference/run_olmoe.hpp"
#include "reference/temp_dir.hpp"

TEST_CASE("generate writes text to stdout and the cost to stderr") {
  const std::vector<std::string> common{"--max-new-tokens", "12"};
  const Outcome native = run_olmoe(generate(nano, common));
  CHECK(native.code == 0);
  CHECK(native.out.starts_with("x"));
  CHECK(native.err.find("8.00 experts per token") != std::string::npos);
  CHECK(native.err.find("12 new tokens") != std::string::npos);
  CHECK(run_olmoe(generate(nano, common)).out == native.out);

  const Outcome few = run_olmoe(generate(nano, {"--max-new-tokens", "12", "--route", "topk:k=3"}));
  CHECK(few.code == 0);
  CHECK(few.err.find("3.00 experts per token") != std::string::npos);
  const Outcome bh = run_olmoe(generate(
      nano, {"--max-new-tokens", "12", "--route", "bh:alpha=0.05,max_k=16", "--threads", "1"}));
  CHECK(bh.code == 0);
  CHECK(bh.err.find("bh:alpha=0.05,min_k=1,max_k=16") != std::string::npos);
}

TEST_CASE("a prompt comes from a file, from standard input, or many from one file") {
  const TempDir directory;
  const std::string model = nano.string();
  const std::string one = directory.write("one.txt", "In the beginning").string();
  const std::string two = directory.write("two.txt", "In the beginning\nA dog is\n").string();
  const std::vector<std::string> base{"generate", "-m", model, "-n", "4"};
  const auto run = [&](std::vector<std::string> more, const std::string& input = "") {
    more.insert(more.begin(), base.begin(), base.end());
    return run_olmoe(more, input.empty() ? "" : "sh -c '\"$@\" <" + input + "' sh");
  };
  const Outcome given = run({"-p", "In the beginning"});
  REQUIRE(given.code == 0);
  CHECK(run({"-f", one}).out == given.out);
  CHECK(run({"-f", "-"}, one).out == given.out);
  const Outcome both = run({"--prompts", two});
  CHECK(both.out == given.out + run({"-p", "A dog is"}).out);
  CHECK(std::ranges::count(both.err, '\n') == 2);
  CHECK(run({"--prompts", "-"}, two).out == both.out);
  CHECK(run({"-p", "In the beginning", "-q"}).err.empty());
  check_error({"generate", "-m", model, "-p", "x", "--prompts", two}, 2, {"--prompts"});
}

TEST_CASE("generate --json says what was written, by what, and why it ended") {
  const std::string model = nano.string();
  const Outcome text = run_olmoe({"generate", "-m", model, "-p", "In the", "-n", "8"});
  const Outcome json = run_olmoe({"generate", "-m", model, "-p", "In the", "-n", "8", "--json"});
  CHECK(json.code == 0);
  CHECK(json.err.empty());
  const auto document = nlohmann::json::parse(json.out);
  CHECK(document["schema"] == "fdroute-olmoe/1");
  CHECK(document["command"] == "generate");
  REQUIRE(document["generations"].size() == 1);
  const auto& only = document["generations"][0];
  const auto written = only["text"].get<std::string>();
  CHECK("In the" + written + "\n" == text.out);
  CHECK(only["ids"].size() == 8);
  CHECK(only["ended_by"] == "length");
  CHECK(only["stop"].is_null());
  CHECK(only["mean_experts"] == doctest::Approx(8.0));

  const std::string stop = written.substr(written.size() / 2, 3);
  const Outcome stopped = run_olmoe({"generate", "-m", model, "-p", "In the", "-n", "8", "--stop",
                                     "never there", "--stop", stop, "--json"});
  const auto cut = nlohmann::json::parse(stopped.out)["generations"][0];
  CHECK(cut["text"] == written.substr(0, written.find(stop)));
  CHECK(cut["ended_by"] == "stop");
  CHECK(cut["stop"] == stop);
  CHECK(run_olmoe({"generate", "-m", model, "-p", "In the", "-n", "8", "--stop", stop}).out ==
        "In the" + written.substr(0, written.find(stop)) + "\n");
}

TEST_CASE("sampling is by seed, and greedy unless asked for") {
  const std::string model = nano.string();
  const auto run = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"generate", "-m", model, "-p", "In the", "-n", "12", "-q"});
    const Outcome outcome = run_olmoe(more);
    CHECK(outcome.code == 0);
    return outcome.out;
  };
  const std::string greedy = run({});
  CHECK(run({"--temperature", "3", "--top-k", "1"}) == greedy);
  CHECK(run({"--temperature", "3", "--top-p", "1e-9"}) == greedy);
  CHECK(run({"--temperature", "3", "--min-p", "1"}) == greedy);
  const std::string drawn = run({"--temperature", "3", "-s", "1"});
  CHECK(drawn != greedy);
  CHECK(run({"--temperature", "3", "-s", "1"}) == drawn);
  CHECK(run({"--temperature", "3", "-s", "2"}) != drawn);
}

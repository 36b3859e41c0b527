#include "routing/nulls_model.hpp"

#include <doctest/doctest.h>

#include <map>
#include <string>
#include <vector>

#include "formats/safetensors_writer.hpp"
#include "forward/model.hpp"
#include "reference/error_of.hpp"
#include "reference/random_texts.hpp"
#include "reference/temp_dir.hpp"

TEST_CASE("a nulls file of another model's routers is refused, one that names no model is not") {
  const olmoe::Model model(tiny + "plain");
  const olmoe::Model other(tiny + "gqa");
  CHECK(olmoe::router_sha256(model) == olmoe::router_sha256(olmoe::Model(tiny + "plain")));
  CHECK(olmoe::router_sha256(model) != olmoe::router_sha256(other));

  const TempDir directory;
  const auto path = directory.path() / "nulls.safetensors";
  const std::vector<double> values{0.0};
  const auto write = [&](const std::map<std::string, std::string>& metadata) {
    olmoe::write_safetensors(path, {olmoe::NamedTensor::of("x", {1}, values)}, metadata);
  };
  const auto error = [&] { return error_of([&] { olmoe::check_nulls_model(path, model); }); };
  write({});
  CHECK(error() == "no error");
  write({{"router_sha256", olmoe::router_sha256(model)}});
  CHECK(error() == "no error");
  write({{"router_sha256", olmoe::router_sha256(other)}, {"model", "gqa"}});
  CHECK(error() == path.string() +
                       ": was fitted on another model, 'gqa': its routers differ from "
                       "this one's; to fit this model's: olmoe calibrate --model DIR --text FILE "
                       "--out nulls.safetensors");
}

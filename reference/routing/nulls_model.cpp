#include "routing/nulls_model.hpp"

#include <cstddef>
#include <vector>

#include "formats/error.hpp"
#include "formats/safetensors.hpp"
#include "formats/sha256.hpp"

namespace olmoe {

std::string router_sha256(const Model& model) {
  std::vector<std::byte> bytes;
  for (const DecoderLayer& layer : model.layers()) {
    const Matrix& router = layer.moe.router;
    bytes.insert(bytes.end(), router.data, router.data + router.bytes());
  }
  return sha256(bytes);
}

void check_nulls_model(const std::filesystem::path& nulls, const Model& model) {
  const SafetensorsFile file(nulls);
  const auto found = file.metadata().find("router_sha256");
  if (found == file.metadata().end() || found->second == router_sha256(model)) return;
  const auto fitted_on = file.metadata().find("model");
  throw Error(
      nulls.string() + ": was fitted on another model" +
      (fitted_on == file.metadata().end() ? "" : ", " + quote(fitted_on->second)) +
      ": its routers differ from this one's; to fit this model's: olmoe calibrate --model DIR "
      "--text FILE --out nulls.safetensors");
}

}  // namespace olmoe

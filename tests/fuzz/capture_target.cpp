// cli/verify: a capture of a tiny model, whose header is the input: our own error, or it is
// reproduced.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "cli/verify.hpp"
#include "forward/model.hpp"
#include "fuzz/fuzz.hpp"
#include "terminal/progress.hpp"

namespace capture_target {

const std::filesystem::path directory = FDROUTE_SOURCE_DIR "/tests/data/tiny/plain";

/// The numbers of the capture beside the model, without its header.
std::string numbers() {
  std::ifstream file(directory / "capture.safetensors", std::ios::binary);
  const std::string whole{std::istreambuf_iterator<char>(file), {}};
  fuzz::Source source(whole);
  const auto header = source.number<std::uint64_t>();
  fuzz::require(header < whole.size(), "the capture can be read");
  source.take(header);
  return std::string(source.rest());
}

olmoe::VerifyOptions options_of(const std::filesystem::path& capture) {
  olmoe::VerifyOptions options;
  options.model = directory.string();
  options.capture = capture.string();
  options.table = std::fopen("/dev/null", "w");
  return options;
}

}  // namespace capture_target

// The first two bytes say how many numbers, in bytes, are left out at the end.
FUZZ_TARGET(capture) {
  namespace target = capture_target;
  static const std::string numbers = target::numbers();
  static const olmoe::Model model(target::directory);
  olmoe::Progress::silence();
  fuzz::Source source(input);
  const std::size_t missing = source.number<std::uint16_t>() % numbers.size();
  const std::uint64_t size = source.rest().size();
  std::string file(reinterpret_cast<const char*>(&size), sizeof size);
  file += source.rest();
  file += numbers.substr(0, numbers.size() - missing);
  static const auto path = fuzz::file_of("capture.safetensors", "");
  static const olmoe::VerifyOptions options = target::options_of(path);
  fuzz::overwrite(path, file);
  fuzz::accepted([&] { olmoe::verify_capture(model, options); });
}

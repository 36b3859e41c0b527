// formats/checkpoint: an index and two shards. Whatever the index says, no file outside the
// directory is opened, and every tensor of the shards can be read.

#include "formats/checkpoint.hpp"

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "fuzz/fuzz.hpp"

namespace checkpoint_target {

/// A sound file of one tensor "secret", outside the directory of the checkpoint.
std::string secret() {
  const std::string header = R"({"secret":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  std::string file(8, '\0');
  file[0] = static_cast<char>(header.size());
  return file + header + "x";
}

}  // namespace checkpoint_target

FUZZ_TARGET(checkpoint) {
  fuzz::Source source(input);
  const auto index_size = source.number<std::uint16_t>();
  const std::string_view index = source.take(index_size);
  const auto first_size = source.number<std::uint16_t>();
  const std::string_view first = source.take(first_size);
  const auto directory = fuzz::scratch() / "model";
  static const bool prepared = [&] {
    std::filesystem::create_directory(directory);
    fuzz::file_of("secret.safetensors", checkpoint_target::secret());
    return true;
  }();
  static_cast<void>(prepared);
  fuzz::file_of("model/model.safetensors.index.json", index);
  fuzz::file_of("model/a.safetensors", first);
  fuzz::file_of("model/b.safetensors", source.rest());
  fuzz::accepted(
      [&] {
        const olmoe::Checkpoint checkpoint(directory);
        for (const std::filesystem::path& file : checkpoint.files()) {
          const auto name = file.filename();
          fuzz::require(file.parent_path() == directory &&
                            (name == "a.safetensors" || name == "b.safetensors"),
                        "a shard is in the directory");
        }
        fuzz::require(!checkpoint.contains("secret") || input.find("secret") != input.npos,
                      "no tensor comes from outside");
        std::uint64_t bytes = 0;
        for (const std::string& name : checkpoint.names())
          bytes += checkpoint.at(name).bytes.size();
        fuzz::require(bytes == checkpoint.total_bytes(), "total_bytes() is that of all tensors");
        checkpoint.check_unchanged();
      },
      "model");
}

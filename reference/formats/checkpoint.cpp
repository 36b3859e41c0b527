#include "formats/checkpoint.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <system_error>

#include "formats/error.hpp"
#include "formats/json.hpp"

namespace olmoe {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// A link to nothing is there, too: opening it says what it is.
bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::symlink_status(path, ignored).type() != fs::file_type::not_found;
}

/// The tensors that an index expects of each shard, by the shard's file name.
std::map<std::string, std::vector<std::string>> read_index(const fs::path& path) {
  const auto fail = [&](const std::string& fact) { throw Error(path.string() + ": " + fact); };
  const json index = read_json(path);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object() ||
      index["weight_map"].empty()) {
    fail("has no 'weight_map' from tensor names to file names");
  }
  std::map<std::string, std::vector<std::string>> shards;
  for (const auto& [name, value] : index["weight_map"].items()) {
    const std::string shard = value.is_string() ? value.get<std::string>() : "";
    if (!is_plain_file_name(shard))
      fail("places tensor " + quote(name) + " in " + show(value) + ", no plain file name");
    shards[shard].push_back(name);
  }
  return shards;
}

}  // namespace

bool is_plain_file_name(const std::string& name) {
  return fs::path(name).filename() == name && !name.empty() && name != "." && name != ".." &&
         name.find('\0') == std::string::npos;
}

Checkpoint::Checkpoint(const fs::path& directory) {
  std::error_code ignored;
  if (!fs::exists(directory, ignored)) throw Error(directory.string() + ": no such directory");
  if (!fs::is_directory(directory, ignored)) throw Error(directory.string() + ": not a directory");

  source_ = directory / "model.safetensors";
  if (is_there(source_)) {
    files_.emplace_back(source_);
  } else {
    open_shards(directory);
  }
  add_tensors_of_files();
}

void Checkpoint::open_shards(const fs::path& directory) {
  source_ = directory / "model.safetensors.index.json";
  if (!is_there(source_)) {
    throw Error(directory.string() +
                ": has neither model.safetensors nor model.safetensors.index.json");
  }
  for (const auto& [shard, names] : read_index(source_)) {
    if (!is_there(directory / shard))
      throw Error(source_.string() + ": the shard " + quote(shard) + " is missing");
    const SafetensorsFile& file = files_.emplace_back(directory / shard);
    for (const std::string& name : names) {
      if (!file.contains(name)) {
        throw Error(file.path().string() + ": no tensor " + quote(name) + ", which " +
                    source_.filename().string() + " places there");
      }
    }
  }
}

void Checkpoint::add_tensors_of_files() {
  for (const SafetensorsFile& file : files_) {
    for (std::size_t i = 0; i < file.size(); ++i) places_.push_back({file.name(i), &file});
  }
  std::ranges::stable_sort(places_, {}, &Place::name);
  const auto twice = std::ranges::adjacent_find(places_, {}, &Place::name);
  if (twice != places_.end()) {
    throw Error(tensor_origin(twice->file->path(), twice->name) + ": is in " +
                quote(std::next(twice)->file->path().filename().string()) + ", too");
  }
}

const Checkpoint::Place* Checkpoint::find(std::string_view name) const {
  const auto found = std::ranges::lower_bound(places_, name, {}, &Place::name);
  return found != places_.end() && found->name == name ? &*found : nullptr;
}

Tensor Checkpoint::at(std::string_view name) const {
  const Place* place = find(name);
  if (place == nullptr) throw Error(source_.string() + ": no tensor " + quote(name));
  return place->file->at(name);
}

Tensor Checkpoint::at(std::string_view name, const Shape& shape) const {
  Tensor tensor = at(name);
  tensor.check_shape(shape);
  return tensor;
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> result;
  result.reserve(places_.size());
  for (const Place& place : places_) result.emplace_back(place.name);
  return result;
}

std::vector<fs::path> Checkpoint::files() const {
  std::vector<fs::path> result;
  for (const SafetensorsFile& file : files_) result.push_back(file.path());
  return result;
}

void Checkpoint::check_unchanged() const {
  for (const SafetensorsFile& file : files_) file.check_unchanged();
}

std::uint64_t Checkpoint::total_bytes() const {
  std::uint64_t total = 0;
  for (const Place& place : places_) total += place.file->at(place.name).bytes.size();
  return total;
}

}  // namespace olmoe

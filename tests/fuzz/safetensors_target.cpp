// formats/safetensors: the verdict of an independent checker of the format; of a file that is read,
// the tensors are all of the data and every byte of them can be read.

#include "formats/safetensors.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fuzz/fuzz.hpp"
#include "fuzz/strict_json.hpp"

namespace safetensors_target {

using fuzz::Value;

__extension__ using Wide = __int128;

const std::map<std::string, int> element_sizes{{"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2},
                                               {"I64", 8}, {"I32", 4}, {"I16", 2}, {"I8", 1},
                                               {"U8", 1},  {"BOOL", 1}};

/// Begin and end of a tensor's data, if its entry in the header is sound.
std::optional<std::pair<std::uint64_t, std::uint64_t>> extent(const Value& entry) {
  const Value* const dtype = entry.find("dtype");
  const Value* const shape = entry.find("shape");
  const Value* const offsets = entry.find("data_offsets");
  if (entry.members.size() != 3 || !dtype || !shape || !offsets) return {};
  if (dtype->kind != Value::Kind::string || !element_sizes.contains(dtype->text)) return {};
  if (shape->kind != Value::Kind::array || offsets->kind != Value::Kind::array) return {};
  constexpr auto most = static_cast<Wide>(INT64_MAX);
  bool empty = false;
  for (const Value& n : shape->elements) {
    if (!n.integer() || *n.integer() > INT64_MAX) return {};
    empty = empty || *n.integer() == 0;
  }
  Wide bytes = empty ? 0 : element_sizes.at(dtype->text);
  for (const Value& n : shape->elements) {
    if (empty) break;
    bytes *= static_cast<Wide>(*n.integer());
    if (bytes > most) return {};
  }
  if (offsets->elements.size() != 2) return {};
  const auto begin = offsets->elements[0].integer();
  const auto end = offsets->elements[1].integer();
  if (!begin || !end || *begin > *end || static_cast<Wide>(*end - *begin) != bytes) return {};
  return std::pair{*begin, *end};
}

/// The limits that formats/safetensors.hpp adds to the format's. It counts lengths as written.
bool within_limits(std::string_view header) {
  return fuzz::accepted([&] { olmoe::check_safetensors_header(header, "ORIGIN"); }, "ORIGIN");
}

/// The header, if `file` is a safetensors file.
std::optional<Value> sound_header(std::string_view file) {
  std::uint64_t size = 0;
  if (file.size() < 8) return {};
  std::memcpy(&size, file.data(), 8);
  if (size > file.size() - 8 || size > 100'000'000) return {};
  const std::string_view text = file.substr(8, size);
  if (!text.starts_with('{') || !within_limits(text)) return {};
  auto header = fuzz::StrictJson::parse(text, 64);
  if (!header) return {};
  std::vector<std::pair<std::uint64_t, std::uint64_t>> extents;
  for (const auto& [name, entry] : header->members) {
    if (name == "__metadata__") {
      if (entry.kind == Value::Kind::null) continue;
      if (entry.kind != Value::Kind::object) return {};
      for (const auto& [key, value] : entry.members)
        if (value.kind != Value::Kind::string) return {};
      continue;
    }
    if (entry.kind != Value::Kind::object) return {};
    const auto sound = extent(entry);
    if (!sound) return {};
    extents.push_back(*sound);
  }
  std::sort(extents.begin(), extents.end());
  std::uint64_t covered = 0;
  for (const auto& [begin, end] : extents) {
    if (begin != covered) return {};
    covered = end;
  }
  if (covered != file.size() - 8 - size) return {};
  return header;
}

/// Reads every byte of a tensor, and its elements in every way that its type allows.
std::size_t read_all(const olmoe::Tensor& tensor) {
  unsigned sum = 0;
  for (const std::byte byte : tensor.bytes) sum += static_cast<unsigned>(byte);
  const volatile unsigned all_read = sum;
  static_cast<void>(all_read);
  fuzz::require(tensor.to_float().size() == tensor.count(), "to_float() has all elements");
  fuzz::require(tensor.to_double().size() == tensor.count(), "to_double() has all elements");
  fuzz::accepted([&] { tensor.to_int64(); }, tensor.origin);
  fuzz::accepted([&] { tensor.as<float>(); }, tensor.origin);
  return tensor.bytes.size();
}

}  // namespace safetensors_target

FUZZ_TARGET(safetensors) {
  namespace target = safetensors_target;
  const auto path = fuzz::file_of("input.safetensors", input);
  const auto expected = target::sound_header(input);
  const bool read = fuzz::accepted(
      [&] {
        const olmoe::SafetensorsFile file(path);
        fuzz::require(expected.has_value(), "a file that is read is sound");
        target::Wide bytes = 0;
        for (std::size_t i = 0; i < file.size(); ++i) {
          const std::string name(file.name(i));
          fuzz::require(file.contains(name) && expected->find(name), "a name is in the header");
          bytes += static_cast<target::Wide>(target::read_all(file.at(name)));
        }
        const auto* const metadata = expected->find("__metadata__");
        const std::size_t tensors = expected->members.size() - (metadata != nullptr ? 1 : 0);
        fuzz::require(file.size() == tensors && file.names().size() == tensors, "all are there");
        std::uint64_t header = 0;
        std::memcpy(&header, input.data(), 8);
        fuzz::require(bytes == static_cast<target::Wide>(input.size() - 8 - header),
                      "the tensors are all of the data");
        for (const auto& [key, value] : file.metadata())
          fuzz::require(metadata->find(key) && metadata->find(key)->text == value, "metadata");
        fuzz::require(!file.contains("no such tensor"), "what is not there is not found");
        file.check_unchanged();
      },
      path.filename().string());
  fuzz::require(read == expected.has_value(), "a sound file is read");
}

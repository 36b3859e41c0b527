#include "formats/safetensors.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>

#include "formats/error.hpp"
#include "formats/json.hpp"

namespace olmoe {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "the header's length is little-endian");

/// What a tensor's entry in the header says, checked but for its place among the others.
struct SafetensorsFile::Header {
  DType dtype;
  Shape shape;
  std::uint64_t begin;
  std::uint64_t end;

  Header(const json& info, const std::filesystem::path& file, std::string_view name);
};

SafetensorsFile::Header::Header(const json& info, const std::filesystem::path& file,
                                std::string_view name) {
  const auto fail = [&](const std::string& fact) {
    throw Error(tensor_origin(file, name) + ": " + fact);
  };
  if (!info.is_object()) fail("its header entry is no object");
  for (const auto& [key, value] : info.items()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      fail("unknown key " + quote(key));
    }
  }
  for (const char* key : {"dtype", "shape", "data_offsets"}) {
    if (!info.contains(key)) fail("has no " + quote(key));
  }

  const json& type = info["dtype"];
  const auto known =
      dtype_named(type.is_string() ? type.get_ref<const std::string&>() : std::string());
  if (!known) fail("unknown dtype " + show(type));
  dtype = *known;

  const json& extents = info["shape"];
  const auto is_extent = [](const json& n) {
    return n.is_number_unsigned() &&
           n.get<std::uint64_t>() <= std::numeric_limits<std::int64_t>::max();
  };
  if (!extents.is_array() || !std::all_of(extents.begin(), extents.end(), is_extent)) {
    fail("shape is no list of extents: " + show(extents));
  }
  shape = extents.get<Shape>();
  const auto bytes = byte_size(dtype, shape);
  if (!bytes) fail("shape " + show(extents) + " is too large");

  const json& offsets = info["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
      !offsets[1].is_number_unsigned()) {
    fail("data_offsets are not two offsets: " + show(offsets));
  }
  offsets[0].get_to(begin);
  offsets[1].get_to(end);
  if (begin > end) fail("data_offsets " + show(offsets) + " end before they begin");
  if (end - begin != *bytes) {
    fail("data_offsets " + show(offsets) + " hold " + std::to_string(end - begin) + " bytes, but " +
         std::string(olmoe::name(dtype)) + " x " + show(extents) + " takes " +
         std::to_string(*bytes));
  }
}

namespace {

std::map<std::string, std::string> read_metadata(json metadata, const std::string& origin) {
  std::map<std::string, std::string> result;
  if (metadata.is_null()) return result;
  const auto is_string = [](const json& value) { return value.is_string(); };
  if (!metadata.is_object() || !std::all_of(metadata.begin(), metadata.end(), is_string))
    throw Error(origin + ": " + std::string(safetensors_metadata_key) + " is no map of strings");
  for (auto& [key, value] : metadata.get_ref<json::object_t&>())
    result.emplace(key, std::move(value.get_ref<std::string&>()));
  return result;
}

/// What a file is that begins with the mark of another format for weights; else empty.
std::string_view other_format(std::span<const std::byte> bytes) {
  struct Mark {
    std::string_view begin;
    std::string_view format;
  };
  constexpr std::array marks{
      Mark{"GGUF", "GGUF, llama.cpp's format; the model's own repository has safetensors"},
      Mark{"PK\3\4", "a zip archive, as torch.save writes; save it by safetensors.torch"},
      Mark{"\x80\2", "a pickle, as torch.save writes; save it by safetensors.torch"},
      Mark{"\x93NUMPY", "a NumPy array"},
      Mark{"\x89HDF", "HDF5"},
  };
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  for (const Mark& mark : marks)
    if (text.starts_with(mark.begin)) return mark.format;
  return {};
}

}  // namespace

void check_safetensors_header(std::string_view text, const std::string& origin) {
  if (text.size() > SafetensorsLimits::header_bytes) {
    throw Error(origin + ": a header of " + std::to_string(text.size()) +
                " bytes, above the format's limit of " +
                std::to_string(SafetensorsLimits::header_bytes));
  }
  check_json_shape(text,
                   {.members = SafetensorsLimits::metadata_entries,
                    .elements = SafetensorsLimits::axes,
                    .token_bytes = SafetensorsLimits::string_bytes},
                   origin);
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : path_(path), file_(path) {
  const auto fail = [&](const std::string& fact) { throw Error(path.string() + ": " + fact); };
  const auto bytes = file_.bytes();
  std::uint64_t header_size;  // the file's first 8 bytes
  if (bytes.size() < sizeof(header_size)) {
    fail("not a safetensors file: only " + std::to_string(bytes.size()) + " bytes");
  }
  std::memcpy(&header_size, bytes.data(), sizeof(header_size));
  const auto rest = bytes.subspan(sizeof(header_size));
  if (const std::string_view format = other_format(bytes); !format.empty())
    fail("not a safetensors file, but " + std::string(format));
  if (header_size > SafetensorsLimits::header_bytes) {
    fail("not a safetensors file: a header of " + std::to_string(header_size) +
         " bytes, above the format's limit of " + std::to_string(SafetensorsLimits::header_bytes));
  }
  if (header_size > rest.size()) {
    fail("the header takes " + std::to_string(header_size) + " bytes, but only " +
         std::to_string(rest.size()) + " follow its length (truncated file?)");
  }
  const std::string_view text(reinterpret_cast<const char*>(rest.data()), header_size);
  if (!text.starts_with('{')) fail("not a safetensors file: the header does not begin with '{'");
  data_ = rest.subspan(header_size);

  check_safetensors_header(text, path.string());

  names_.reserve(header_size);
  bool has_metadata = false;
  for_each_member(text, path.string(), [&](const std::string& name, json info) {
    if (name != safetensors_metadata_key) return add(name, {info, path, name});
    if (std::exchange(has_metadata, true)) fail("repeated key " + quote(name));
    metadata_ = read_metadata(std::move(info), path.string());
  });
  std::ranges::sort(entries_, {}, &Entry::name);
  const auto repeated = std::ranges::adjacent_find(entries_, {}, &Entry::name);
  if (repeated != entries_.end()) fail("repeated key " + quote(repeated->name));
  check_coverage(data_.size());
}

void SafetensorsFile::add(const std::string& name, const Header& tensor) {
  // An escape in JSON is never shorter than what it stands for, so all names fit the reserve.
  const char* const begin = names_.data() + names_.size();
  names_.insert(names_.end(), name.begin(), name.end());
  entries_.push_back({.name = {begin, name.size()},
                      .begin = tensor.begin,
                      .end = tensor.end,
                      .dtype = tensor.dtype,
                      .rank = static_cast<std::uint32_t>(tensor.shape.size()),
                      .shape = extents_.size()});
  extents_.insert(extents_.end(), tensor.shape.begin(), tensor.shape.end());
}

// The tensors must cover the data exactly once.
void SafetensorsFile::check_coverage(std::uint64_t data_size) const {
  std::vector<std::uint32_t> order(entries_.size());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::stable_sort(
      order, {}, [&](std::uint32_t i) { return std::pair(entries_[i].begin, entries_[i].end); });
  std::uint64_t covered = 0;
  const Entry* previous = nullptr;
  for (const std::uint32_t i : order) {
    const Entry& entry = entries_[i];
    const auto fail = [&](const std::string& fact) {
      throw Error(tensor_origin(path_, entry.name) + ": " + fact);
    };
    if (entry.end > data_size) {
      fail("ends at byte " + std::to_string(entry.end) + " of the data, which has only " +
           std::to_string(data_size) + " (truncated file?)");
    }
    if (entry.begin < covered) fail("its data overlap those of " + quote(previous->name));
    if (entry.begin > covered) {
      fail("unused bytes before its data: " + std::to_string(entry.begin - covered));
    }
    covered = entry.end;
    previous = &entry;
  }
  if (covered < data_size) {
    throw Error(path_.string() + ": " + std::to_string(data_size - covered) +
                " bytes after the last tensor");
  }
}

const SafetensorsFile::Entry* SafetensorsFile::find(std::string_view name) const {
  const auto found = std::ranges::lower_bound(entries_, name, {}, &Entry::name);
  return found != entries_.end() && found->name == name ? &*found : nullptr;
}

Tensor SafetensorsFile::at(std::string_view name) const {
  const Entry* entry = find(name);
  if (entry == nullptr) throw Error(path_.string() + ": no tensor " + quote(name));
  const auto shape = extents_.begin() + static_cast<std::ptrdiff_t>(entry->shape);
  return {.origin = tensor_origin(path_, name),
          .dtype = entry->dtype,
          .shape = {shape, shape + entry->rank},
          .bytes = data_.subspan(entry->begin, entry->end - entry->begin)};
}

Tensor SafetensorsFile::at(std::string_view name, const Shape& shape) const {
  Tensor tensor = at(name);
  tensor.check_shape(shape);
  return tensor;
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> result;
  result.reserve(entries_.size());
  for (const Entry& entry : entries_) result.emplace_back(entry.name);
  return result;
}

}  // namespace olmoe

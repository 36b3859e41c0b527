#include "formats/safetensors.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <concepts>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <numeric>
#include <optional>
#include <system_error>
#include <utility>

#include "formats/atomic_file.hpp"
#include "formats/error.hpp"
#include "formats/json.hpp"

namespace olmoe {
namespace {

static_assert(std::endian::native == std::endian::little, "the format's numbers are little-endian");

using nlohmann::json;

struct DTypeTraits {
  DType dtype;
  std::string_view name;
  std::size_t size;
};

constexpr std::array<DTypeTraits, 10> dtypes = {{{DType::F64, "F64", 8},
                                                 {DType::F32, "F32", 4},
                                                 {DType::F16, "F16", 2},
                                                 {DType::BF16, "BF16", 2},
                                                 {DType::I64, "I64", 8},
                                                 {DType::I32, "I32", 4},
                                                 {DType::I16, "I16", 2},
                                                 {DType::I8, "I8", 1},
                                                 {DType::U8, "U8", 1},
                                                 {DType::BOOL, "BOOL", 1}}};

const DTypeTraits& traits(DType dtype) {
  return dtypes[static_cast<std::size_t>(dtype)];
}

constexpr std::string_view metadata_key = "__metadata__";
constexpr std::size_t length_size =
    sizeof(std::uint64_t);                              // of the header's length, the first bytes
constexpr std::uint64_t max_header_size = 100'000'000;  // the format's own limit

// Bytes of a tensor, or nothing if an extent is negative or the product does not fit.
std::optional<std::uint64_t> byte_size(DType dtype, const Shape& shape) {
  std::uint64_t result = size(dtype);
  for (const std::int64_t extent : shape) {
    if (extent < 0) return std::nullopt;
    if (extent == 0) result = 0;
  }
  if (result == 0) return result;
  for (const std::int64_t extent : shape) {
    const auto factor = static_cast<std::uint64_t>(extent);
    if (result > std::numeric_limits<std::int64_t>::max() / factor) return std::nullopt;
    result *= factor;
  }
  return result;
}

std::string tensor_origin(const std::filesystem::path& path, std::string_view name) {
  return path.string() + ": tensor " + quote(name);
}

}  // namespace

// What one entry of the header says, checked but for its place among the others.
struct TensorHeader {
  DType dtype;
  Shape shape;
  std::uint64_t begin;
  std::uint64_t end;
};

namespace {

TensorHeader parse_entry(const json& info, const std::filesystem::path& path,
                         std::string_view name) {
  const auto fail = [&](const std::string& fact) {
    throw Error(tensor_origin(path, name) + ": " + fact);
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

  TensorHeader entry{.dtype = {}, .shape = {}, .begin = 0, .end = 0};

  const json& dtype = info["dtype"];
  const auto* known = std::find_if(dtypes.begin(), dtypes.end(),
                                   [&](const DTypeTraits& t) { return dtype == t.name; });
  if (known == dtypes.end()) fail("unknown dtype " + show(dtype));
  entry.dtype = known->dtype;

  const json& shape = info["shape"];
  const auto is_extent = [](const json& n) {
    return n.is_number_unsigned() &&
           n.get<std::uint64_t>() <= std::numeric_limits<std::int64_t>::max();
  };
  if (!shape.is_array() || !std::all_of(shape.begin(), shape.end(), is_extent)) {
    fail("shape is no list of extents: " + show(shape));
  }
  entry.shape = shape.get<Shape>();
  const auto bytes = byte_size(entry.dtype, entry.shape);
  if (!bytes) fail("shape " + show(shape) + " is too large");

  const json& offsets = info["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
      !offsets[1].is_number_unsigned()) {
    fail("data_offsets are not two offsets: " + show(offsets));
  }
  offsets[0].get_to(entry.begin);
  offsets[1].get_to(entry.end);
  if (entry.begin > entry.end) fail("data_offsets " + show(offsets) + " end before they begin");
  if (entry.end - entry.begin != *bytes) {
    fail("data_offsets " + show(offsets) + " hold " + std::to_string(entry.end - entry.begin) +
         " bytes, but " + std::string(known->name) + " x " + show(shape) + " takes " +
         std::to_string(*bytes));
  }
  return entry;
}

std::map<std::string, std::string> parse_metadata(const json& metadata,
                                                  const std::filesystem::path& path) {
  if (metadata.is_null()) return {};
  const auto is_string = [](const json& value) { return value.is_string(); };
  if (!metadata.is_object() || !std::all_of(metadata.begin(), metadata.end(), is_string)) {
    throw Error(path.string() + ": " + std::string(metadata_key) + " is no map of strings");
  }
  return metadata.get<std::map<std::string, std::string>>();
}

template <class To, class From>
To convert(From value) {
  if constexpr (std::same_as<From, Half> || std::same_as<From, BFloat16>) {
    return static_cast<To>(to_float(value));
  } else {
    return static_cast<To>(value);
  }
}

template <class To, class From>
std::vector<To> converted(std::span<const std::byte> bytes) {
  std::vector<To> result(bytes.size() / sizeof(From));
  for (std::size_t i = 0; i < result.size(); ++i) {
    From value;
    std::memcpy(&value, bytes.data() + i * sizeof(From), sizeof(From));
    result[i] = convert<To>(value);
  }
  return result;
}

template <class To>
std::vector<To> converted(const Tensor& tensor) {
  if constexpr (!std::integral<To>) {
    switch (tensor.dtype) {
      case DType::F64:
        return converted<To, double>(tensor.bytes);
      case DType::F32:
        return converted<To, float>(tensor.bytes);
      case DType::F16:
        return converted<To, Half>(tensor.bytes);
      case DType::BF16:
        return converted<To, BFloat16>(tensor.bytes);
      default:
        break;
    }
  }
  switch (tensor.dtype) {
    case DType::I64:
      return converted<To, std::int64_t>(tensor.bytes);
    case DType::I32:
      return converted<To, std::int32_t>(tensor.bytes);
    case DType::I16:
      return converted<To, std::int16_t>(tensor.bytes);
    case DType::I8:
      return converted<To, std::int8_t>(tensor.bytes);
    case DType::U8:
      return converted<To, std::uint8_t>(tensor.bytes);
    case DType::BOOL: {
      std::vector<To> result = converted<To, std::uint8_t>(tensor.bytes);
      for (To& value : result) value = value != 0 ? To{1} : To{0};
      return result;
    }
    default:
      throw Error(tensor.origin + " holds " + std::string(name(tensor.dtype)) + ", not integers");
  }
}

Tensor checked_shape(Tensor tensor, const Shape& shape) {
  if (tensor.shape != shape) {
    throw Error(tensor.origin + " has shape " + to_string(tensor.shape) + ", expected " +
                to_string(shape));
  }
  return tensor;
}

}  // namespace

std::string_view name(DType dtype) {
  return traits(dtype).name;
}

std::size_t size(DType dtype) {
  return traits(dtype).size;
}

std::string to_string(const Shape& shape) {
  return json(shape).dump();
}

std::vector<float> Tensor::to_float() const {
  return converted<float>(*this);
}

std::vector<double> Tensor::to_double() const {
  return converted<double>(*this);
}

std::vector<std::int64_t> Tensor::to_int64() const {
  return converted<std::int64_t>(*this);
}

void Tensor::check_in_place(DType wanted, std::size_t alignment) const {
  if (dtype != wanted) {
    throw Error(origin + " holds " + std::string(name(dtype)) + ", expected " +
                std::string(name(wanted)));
  }
  if (!bytes.empty() && reinterpret_cast<std::uintptr_t>(bytes.data()) % alignment != 0) {
    throw Error(origin + ": its data are misaligned, not at a multiple of " +
                std::to_string(alignment) + " bytes (write the file again to align them)");
  }
}

Tensor Tensor::rows_of(std::int64_t index, std::int64_t first, const Shape& matrix) const {
  const auto row_bytes = static_cast<std::size_t>(matrix.at(1)) * size(dtype);
  const auto row = static_cast<std::size_t>(index * shape.at(1) + first);
  return {.origin = origin,
          .dtype = dtype,
          .shape = matrix,
          .bytes = bytes.subspan(row * row_bytes, static_cast<std::size_t>(matrix[0]) * row_bytes)};
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : path_(path), file_(path) {
  const auto fail = [&](const std::string& fact) { throw Error(path.string() + ": " + fact); };
  const auto bytes = file_.bytes();
  if (bytes.size() < length_size) {
    fail("not a safetensors file: only " + std::to_string(bytes.size()) + " bytes");
  }
  std::uint64_t header_size;
  std::memcpy(&header_size, bytes.data(), length_size);
  if (header_size > max_header_size) {
    fail("not a safetensors file: a header of " + std::to_string(header_size) +
         " bytes, above the format's limit of " + std::to_string(max_header_size));
  }
  if (header_size > bytes.size() - length_size) {
    fail("the header takes " + std::to_string(header_size) + " bytes, but only " +
         std::to_string(bytes.size() - length_size) + " follow its length (truncated file?)");
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + length_size,
                              header_size);
  if (!text.starts_with('{')) fail("not a safetensors file: the header does not begin with '{'");
  data_ = bytes.subspan(length_size + header_size);

  names_.reserve(header_size);
  bool has_metadata = false;
  for_each_member(text, path.string(), [&](const std::string& name, const json& info) {
    if (name != metadata_key) return add(name, parse_entry(info, path, name));
    if (std::exchange(has_metadata, true)) fail("repeated key " + quote(name));
    metadata_ = parse_metadata(info, path);
  });
  std::ranges::sort(entries_, {}, &Entry::name);
  const auto repeated = std::ranges::adjacent_find(entries_, {}, &Entry::name);
  if (repeated != entries_.end()) fail("repeated key " + quote(repeated->name));
  check_coverage(data_.size());
}

void SafetensorsFile::add(const std::string& name, const TensorHeader& tensor) {
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
  const auto shape = shape_of(*entry);
  return {.origin = tensor_origin(path_, name),
          .dtype = entry->dtype,
          .shape = {shape.begin(), shape.end()},
          .bytes = data_.subspan(entry->begin, entry->end - entry->begin)};
}

Tensor SafetensorsFile::at(std::string_view name, const Shape& shape) const {
  return checked_shape(at(name), shape);
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> result;
  result.reserve(entries_.size());
  for (const Entry& entry : entries_) result.emplace_back(entry.name);
  return result;
}

Checkpoint::Checkpoint(const std::filesystem::path& directory) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (!fs::exists(directory, ignored)) throw Error(directory.string() + ": no such directory");
  if (!fs::is_directory(directory, ignored)) throw Error(directory.string() + ": not a directory");

  // A link to nothing is there, too: opening it says what it is.
  const auto is_there = [&](const fs::path& path) {
    return fs::symlink_status(path, ignored).type() != fs::file_type::not_found;
  };
  source_ = directory / "model.safetensors";
  if (is_there(source_)) {
    files_.emplace_back(source_);
    add_tensors_of_files();
    return;
  }
  source_ = directory / "model.safetensors.index.json";
  if (!is_there(source_)) {
    throw Error(directory.string() +
                ": has neither model.safetensors nor model.safetensors.index.json");
  }

  const auto fail = [&](const std::string& fact) { throw Error(source_.string() + ": " + fact); };
  const json index = read_json(source_);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object() ||
      index["weight_map"].empty()) {
    fail("has no 'weight_map' from tensor names to file names");
  }
  std::map<std::string, std::vector<std::string>> shards;  // file name -> its tensors
  for (const auto& [name, value] : index["weight_map"].items()) {
    const std::string shard = value.is_string() ? value.get<std::string>() : "";
    // An index must not lead out of its directory.
    if (fs::path(shard).filename() != shard || shard.empty() || shard == "." || shard == ".." ||
        shard.find('\0') != std::string::npos) {
      fail("places tensor " + quote(name) + " in " + show(value) + ", no plain file name");
    }
    shards[shard].push_back(name);
  }
  files_.reserve(shards.size());
  for (const auto& [shard, names] : shards) {
    if (!is_there(directory / shard)) fail("the shard " + quote(shard) + " is missing");
    const SafetensorsFile& file = files_.emplace_back(directory / shard);
    for (const std::string& name : names) {
      if (!file.contains(name)) {
        throw Error(file.path().string() + ": no tensor " + quote(name) + ", which " +
                    source_.filename().string() + " places there");
      }
    }
  }
  add_tensors_of_files();
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
  return checked_shape(at(name), shape);
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> result;
  result.reserve(places_.size());
  for (const Place& place : places_) result.emplace_back(place.name);
  return result;
}

std::vector<std::filesystem::path> Checkpoint::files() const {
  std::vector<std::filesystem::path> result;
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

std::uint64_t TensorInfo::bytes() const {
  const auto bytes = byte_size(dtype, shape);
  if (!bytes)
    throw Error("tensor " + quote(name) + ": shape " + to_string(shape) + " is too large");
  return *bytes;
}

SafetensorsWriter::SafetensorsWriter(std::filesystem::path path, std::vector<TensorInfo> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : path_(std::move(path)),
      // Beside `path`, since a rename does not cross file systems.
      temporary_(temporary_beside(path_)),
      tensors_(std::move(tensors)) {
  std::sort(tensors_.begin(), tensors_.end(), [](const TensorInfo& a, const TensorInfo& b) {
    const std::size_t a_size = size(a.dtype);
    const std::size_t b_size = size(b.dtype);
    return a_size != b_size ? a_size > b_size : a.name < b.name;
  });

  json header = json::object();
  if (!metadata.empty()) header[std::string(metadata_key)] = metadata;
  for (const TensorInfo& tensor : tensors_) {
    const auto refuse = [&](const std::string& fact) {
      throw Error(tensor_origin(path_, tensor.name) + ": " + fact);
    };
    if (tensor.name == metadata_key) refuse("the name is reserved");
    if (header.contains(tensor.name)) refuse("given twice");
    const std::uint64_t end = missing_ + tensor.bytes();
    header[tensor.name] = {
        {"dtype", name(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {missing_, end}}};
    missing_ = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::exception&) {
    throw Error(path_.string() + ": a tensor name or metadata that is not UTF-8");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (text.size() > max_header_size)
    throw Error(path_.string() + ": too many tensors for a header");

  out_.open(temporary_, std::ios::binary);
  if (!out_) fail("cannot create the file");
  const std::uint64_t header_size = text.size();
  out_.write(reinterpret_cast<const char*>(&header_size), length_size);
  out_.write(text.data(), static_cast<std::streamsize>(text.size()));
}

SafetensorsWriter::~SafetensorsWriter() {
  std::error_code ignored;
  std::filesystem::remove(temporary_, ignored);
}

void SafetensorsWriter::fail(const char* what) const {
  throw Error(path_.string() + ": " + what + ": " + std::generic_category().message(errno));
}

void SafetensorsWriter::write(std::span<const std::byte> bytes) {
  if (bytes.size() > missing_) throw Error(path_.string() + ": more bytes than the tensors have");
  missing_ -= bytes.size();
  out_.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  if (!out_) fail("cannot write the file");
}

void SafetensorsWriter::finish() {
  if (missing_ > 0) {
    throw Error(path_.string() + ": " + std::to_string(missing_) +
                " bytes of its tensors are missing");
  }
  out_.close();
  if (!out_) fail("cannot write the file");
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail("cannot replace the file");
}

void write_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<TensorInfo> infos;
  std::map<std::string_view, std::span<const std::byte>> bytes;
  for (const NamedTensor& tensor : tensors) {
    if (byte_size(tensor.dtype, tensor.shape) != tensor.bytes.size()) {
      throw Error(tensor_origin(path, tensor.name) + ": " + std::string(name(tensor.dtype)) +
                  " x " + to_string(tensor.shape) + " does not take " +
                  std::to_string(tensor.bytes.size()) + " bytes");
    }
    infos.push_back({tensor.name, tensor.dtype, tensor.shape});
    bytes.emplace(tensor.name, tensor.bytes);
  }
  SafetensorsWriter writer(path, std::move(infos), metadata);
  for (const TensorInfo& tensor : writer.tensors()) writer.write(bytes.at(tensor.name));
  writer.finish();
}

}  // namespace olmoe

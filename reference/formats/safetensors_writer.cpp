#include "formats/safetensors_writer.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <string_view>
#include <system_error>

#include "formats/error.hpp"
#include "formats/json.hpp"
#include "formats/safetensors.hpp"

namespace olmoe {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "the header's length is little-endian");

std::uint64_t TensorInfo::bytes() const {
  const auto bytes = byte_size(dtype, shape);
  if (!bytes)
    throw Error("tensor " + quote(name) + ": shape " + to_string(shape) + " is too large");
  return *bytes;
}

SafetensorsWriter::SafetensorsWriter(std::filesystem::path path, std::vector<TensorInfo> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : path_(std::move(path)), temporary_(path_), tensors_(std::move(tensors)) {
  std::sort(tensors_.begin(), tensors_.end(), [](const TensorInfo& a, const TensorInfo& b) {
    const std::size_t a_size = size(a.dtype);
    const std::size_t b_size = size(b.dtype);
    return a_size != b_size ? a_size > b_size : a.name < b.name;
  });

  json header = json::object();
  if (!metadata.empty()) header[std::string(safetensors_metadata_key)] = metadata;
  for (const TensorInfo& tensor : tensors_) {
    const auto refuse = [&](const std::string& fact) {
      throw Error(tensor_origin(path_, tensor.name) + ": " + fact);
    };
    if (tensor.name == safetensors_metadata_key) refuse("the name is reserved");
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
  check_safetensors_header(text, path_.string());

  out_.open(temporary_.path(), std::ios::binary);
  if (!out_) fail("cannot create the file");
  const std::uint64_t header_size = text.size();
  out_.write(reinterpret_cast<const char*>(&header_size), sizeof(header_size));
  out_.write(text.data(), static_cast<std::streamsize>(text.size()));
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
  temporary_.replace();
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

#pragma once

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "formats/safetensors_writer.hpp"

/// A safetensors file's contents: the header's length, the header, the data.
inline std::string file_with(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + header + data;
}

/// A tensor's entry in a header.
inline std::string entry(const std::string& dtype, const std::string& shape,
                         const std::string& offsets) {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

inline const std::vector<float> some_floats = {1.5F, -2.0F, 0.25F, 3.0F, 4.0F, 5.0F};

/// A file of the tensor t, 2 x 3 floats, under `name` in `dir`.
inline std::filesystem::path write_some(const std::filesystem::path& dir, const std::string& name,
                                        const std::string& tensor = "t") {
  olmoe::write_safetensors(dir / name, {olmoe::NamedTensor::of(tensor, {2, 3}, some_floats)});
  return dir / name;
}

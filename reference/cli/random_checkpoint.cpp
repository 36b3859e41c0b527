#include "cli/random_checkpoint.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/atomic_file.hpp"
#include "formats/error.hpp"
#include "formats/json.hpp"
#include "forward/config.hpp"
#include "terminal/progress.hpp"

namespace olmoe {
namespace {

constexpr double deviation = 0.02;  // transformers' initializer_range

/// splitmix64's finaliser (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
/// 2014, section 5), which turns a counter into independent bits.
std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

constexpr std::uint64_t golden_ratio = 0x9e3779b97f4a7c15U;

std::uint64_t stream_of(std::uint64_t seed, std::string_view name) {
  std::uint64_t hash = mix(seed + golden_ratio);
  for (const char c : name) hash = mix(hash + golden_ratio + static_cast<unsigned char>(c));
  return hash;
}

/// Nearly normal: the sum of four uniform 16-bit numbers, scaled.
float weight(std::uint64_t stream, std::uint64_t index) {
  const std::uint64_t bits = mix(stream + index * golden_ratio);
  const auto sum = static_cast<std::int32_t>((bits & 0xffff) + (bits >> 16 & 0xffff) +
                                             (bits >> 32 & 0xffff) + (bits >> 48));
  const float scale = static_cast<float>(deviation / (65536.0 / std::sqrt(3.0)));
  return static_cast<float>(sum - 2 * 65535) * scale;
}

void store(float value, float& to) {
  to = value;
}
void store(float value, Half& to) {
  to = to_half(value);
}
void store(float value, BFloat16& to) {
  to = to_bfloat16(value);
}

/// Elements first, first + 1 ... of a tensor.
template <class T>
void fill(std::span<std::byte> bytes, bool ones, std::uint64_t stream, std::uint64_t first) {
  T* to = reinterpret_cast<T*>(bytes.data());
  const auto n = static_cast<std::int64_t>(bytes.size() / sizeof(T));
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < n; ++i)
    store(ones ? 1.0F : weight(stream, first + static_cast<std::uint64_t>(i)), to[i]);
}

void fill(const TensorInfo& tensor, std::uint64_t seed, std::uint64_t first,
          std::span<std::byte> bytes) {
  const bool ones = tensor.name.ends_with("norm.weight");
  const std::uint64_t stream = stream_of(seed, tensor.name);
  if (tensor.dtype == DType::F32) return fill<float>(bytes, ones, stream, first);
  if (tensor.dtype == DType::F16) return fill<Half>(bytes, ones, stream, first);
  fill<BFloat16>(bytes, ones, stream, first);
}

void write_shard(const std::filesystem::path& path, const std::vector<TensorInfo>& tensors,
                 std::uint64_t seed, std::uint64_t& written, Progress& progress) {
  constexpr std::size_t piece = 64U << 20;
  std::vector<std::byte> buffer(piece);
  SafetensorsWriter writer(path, tensors, {{"format", "pt"}});
  progress.start(path.filename().string());
  for (const TensorInfo& tensor : writer.tensors()) {
    for (std::uint64_t at = 0; at < tensor.bytes(); at += piece) {
      const auto bytes =
          std::span(buffer).first(std::min<std::uint64_t>(piece, tensor.bytes() - at));
      fill(tensor, seed, at / size(tensor.dtype), bytes);
      writer.write(bytes);
      written += bytes.size();
      progress.update(static_cast<double>(written));
    }
  }
  writer.finish();
}

std::string shard_name(std::size_t index, std::size_t shards) {
  if (shards == 1) return "model.safetensors";
  char text[64];
  std::snprintf(text, sizeof text, "model-%05zu-of-%05zu.safetensors", index + 1, shards);
  return text;
}

std::string config_text(const std::filesystem::path& path, DType dtype) {
  nlohmann::json config = read_json(path);
  config.erase("torch_dtype");  // transformers 4's name for it
  config["dtype"] = dtype == DType::F32 ? "float32" : dtype == DType::F16 ? "float16" : "bfloat16";
  return config.dump(2) + "\n";
}

/// The tensors of a checkpoint of this config, all of type `dtype`, in order of their names.
std::vector<TensorInfo> tensors_of(const Config& config, DType dtype) {
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t intermediate = config.intermediate_size;
  const std::int64_t kv_width = std::int64_t{config.num_key_value_heads} * config.head_dim();
  std::vector<TensorInfo> tensors;
  const auto add = [&](const std::string& name, Shape shape) {
    tensors.push_back({name + ".weight", dtype, std::move(shape)});
  };
  add("model.embed_tokens", {config.vocab_size, hidden});
  for (int l = 0; l < config.num_hidden_layers; ++l) {
    const std::string prefix = "model.layers." + std::to_string(l) + ".";
    add(prefix + "input_layernorm", {hidden});
    add(prefix + "post_attention_layernorm", {hidden});
    for (const auto& [name, rows] : {std::pair{"q", hidden}, std::pair{"k", kv_width},
                                     std::pair{"v", kv_width}, std::pair{"o", hidden}}) {
      const std::string projection = prefix + "self_attn." + name + "_proj";
      add(projection, {rows, hidden});
      if (config.attention_bias) tensors.push_back({projection + ".bias", dtype, {rows}});
    }
    add(prefix + "self_attn.q_norm", {hidden});
    add(prefix + "self_attn.k_norm", {kv_width});
    add(prefix + "mlp.gate", {config.num_experts, hidden});
    for (int e = 0; e < config.num_experts; ++e) {
      const std::string expert = prefix + "mlp.experts." + std::to_string(e) + ".";
      add(expert + "gate_proj", {intermediate, hidden});
      add(expert + "up_proj", {intermediate, hidden});
      add(expert + "down_proj", {hidden, intermediate});
    }
  }
  add("model.norm", {hidden});
  if (!config.tie_word_embeddings) add("lm_head", {config.vocab_size, hidden});
  std::sort(tensors.begin(), tensors.end(),
            [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
  return tensors;
}

}  // namespace

void make_random_checkpoint(const RandomCheckpointOptions& options) {
  const Config config = Config::read(options.config);
  make_directories(options.out);
  for (const char* file : {"model.safetensors", "model.safetensors.index.json"}) {
    if (std::filesystem::exists(options.out / file))
      throw Error(options.out.string() + ": holds weights already, " + file);
  }

  std::vector<std::vector<TensorInfo>> shards(1);
  std::uint64_t total = 0;
  std::uint64_t in_shard = 0;
  for (const TensorInfo& tensor : tensors_of(config, options.dtype)) {
    if (!shards.back().empty() && in_shard + tensor.bytes() > options.max_shard_size) {
      shards.emplace_back();
      in_shard = 0;
    }
    in_shard += tensor.bytes();
    total += tensor.bytes();
    shards.back().push_back(tensor);
  }
  const std::uint64_t free = std::filesystem::space(options.out).available;
  if (free < total) {
    throw Error(options.out.string() + ": the weights take " + std::to_string(total) +
                " bytes, and there is room for " + std::to_string(free));
  }

  write_atomically(options.out / "config.json", config_text(options.config, options.dtype));
  nlohmann::json map;
  Progress progress({.what = "weights", .unit = "B", .total = static_cast<double>(total)});
  std::uint64_t written = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(i, shards.size());
    write_shard(options.out / name, shards[i], options.seed, written, progress);
    for (const TensorInfo& tensor : shards[i]) map[tensor.name] = name;
  }
  if (shards.size() == 1) return;
  const nlohmann::json index = {{"metadata", {{"total_size", total}}}, {"weight_map", map}};
  write_atomically(options.out / "model.safetensors.index.json", index.dump(2) + "\n");
}

}  // namespace olmoe

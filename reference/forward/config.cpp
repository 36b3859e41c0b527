#include "forward/config.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <string>
#include <utility>

#include "formats/error.hpp"
#include "formats/json.hpp"
#include "formats/limits.hpp"
#include "forward/config_keys.hpp"

namespace olmoe {
namespace {

using nlohmann::json;

constexpr int max_size = Limits::size;
constexpr int max_experts = Limits::experts;

// transformers' names; the first of each function is the one name() gives.
constexpr std::array<std::pair<std::string_view, Activation>, 9> named_activations = {{
    {"silu", Activation::Silu},
    {"swish", Activation::Silu},
    {"gelu", Activation::Gelu},
    {"gelu_python", Activation::Gelu},
    {"gelu_pytorch_tanh", Activation::GeluTanh},
    {"gelu_new", Activation::GeluTanh},
    {"gelu_fast", Activation::GeluTanh},
    {"gelu_accurate", Activation::GeluTanh},
    {"relu", Activation::Relu},
}};

// A JSON object whose fields are taken one by one; the rest is refused, or looked at again.
class Fields {
 public:
  // `prefix` stands before a field's name in messages: "" or "rope_scaling."
  Fields(const json& object, std::string origin, std::string prefix = "")
      : object_(object), origin_(std::move(origin)), prefix_(std::move(prefix)) {}

  [[noreturn]] void fail(const std::string& fact) const { throw Error(origin_ + ": " + fact); }

  // A field's value; nullptr if it is absent or null.
  const json* find(const std::string& key) {
    taken_.insert(key);
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  const json& get(const std::string& key) {
    const json* value = find(key);
    if (value == nullptr) fail("field " + quote(prefix_ + key) + " is missing");
    return *value;
  }

  int size(const std::string& key, int max = max_size) {
    const json& value = get(key);
    const std::string wanted = "an integer from 1 to " + std::to_string(max);
    if (!value.is_number_unsigned()) fail_type(key, wanted, value);
    const auto number = value.get<std::uint64_t>();
    if (number < 1 || number > static_cast<std::uint64_t>(max)) fail_type(key, wanted, value);
    return static_cast<int>(number);
  }

  // A positive number that is neither zero nor infinite as a T.
  template <class T>
  T positive(const std::string& key) {
    const json& value = get(key);
    if (!value.is_number()) fail_type(key, "a positive number", value);
    const auto number = static_cast<T>(value.get<double>());
    if (!(number > 0) || !std::isfinite(number)) fail_type(key, "a positive number", value);
    return number;
  }

  bool flag(const std::string& key) {
    const json& value = get(key);
    if (!value.is_boolean()) fail_type(key, "true or false", value);
    return value.get<bool>();
  }

  std::string text(const std::string& key) {
    const json& value = get(key);
    if (!value.is_string()) fail_type(key, "a string", value);
    return value.get<std::string>();
  }

  // An id, a list of them, or none.
  std::vector<std::int64_t> ids(const std::string& key) {
    const json* value = find(key);
    if (value == nullptr) return {};
    const json list = value->is_array() ? *value : json::array({*value});
    const auto is_id = [](const json& id) { return id.is_number_integer(); };
    if (!std::all_of(list.begin(), list.end(), is_id)) fail_type(key, "token ids", *value);
    return list.get<std::vector<std::int64_t>>();
  }

  std::optional<std::int64_t> id(const std::string& key) {
    const json* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_number_integer()) fail_type(key, "a token id", *value);
    return value->get<std::int64_t>();
  }

  // The fields of a nested object.
  Fields object(const std::string& key) {
    const json& value = get(key);
    if (!value.is_object()) fail_type(key, "an object", value);
    return {value, origin_, prefix_ + key + "."};
  }

  // Refuses what nobody took and `harmful(key, value)` holds of.
  template <class Predicate>
  void finish(Predicate harmful) const {
    for (const auto& [key, value] : object_.items()) {
      if (!taken_.contains(key) && harmful(key, value)) {
        fail("unknown key " + quote(prefix_ + key) +
             ", which may change the model's numbers: " + show(value));
      }
    }
  }

 private:
  [[noreturn]] void fail_type(const std::string& key, const std::string& wanted,
                              const json& value) const {
    fail("field " + quote(prefix_ + key) + " must be " + wanted + ", got " + show(value));
  }

  const json& object_;
  std::string origin_;
  std::string prefix_;
  std::set<std::string> taken_;
};

Activation parse_activation(Fields& fields) {
  const std::string name = fields.text("hidden_act");
  std::string accepted;
  for (const auto& [known, activation] : named_activations) {
    if (name == known) return activation;
    accepted += (accepted.empty() ? "" : ", ") + std::string(known);
  }
  fields.fail("unknown hidden_act " + quote(name) + "; accepted are " + accepted);
}

// What one of transformers' places for it says of the rotary embedding.
struct Rope {
  std::optional<double> theta;
  std::optional<double> factor;  // 1 for type default
};

// rope_scaling (4.x) and rope_parameters (5.x) share a form: type (rope_type, or type in older
// files), factor, and in 5.x rope_theta.
Rope parse_rope(Fields fields) {
  Rope rope;
  if (fields.find("rope_theta") != nullptr) rope.theta = fields.positive<double>("rope_theta");
  // transformers takes "default" for a type left out.
  const char* const type_key = fields.find("type") != nullptr ? "type" : "rope_type";
  const std::string type = fields.find(type_key) != nullptr ? fields.text(type_key) : "default";
  if (fields.find("rope_type") != nullptr && fields.text("rope_type") != type) {
    fields.fail("rope types " + quote(type) + " and " + quote(fields.text("rope_type")) +
                " contradict each other");
  }
  if (type == "linear") {
    rope.factor = fields.positive<double>("factor");
  } else if (type == "default") {
    rope.factor = 1;
  } else {
    fields.fail("unknown rope type " + quote(type) + "; accepted are default, linear");
  }
  fields.finish([](const std::string& key, const json& value) {
    return !value.is_null() && !(key == "partial_rotary_factor" && value == 1);
  });
  return rope;
}

// Where two places give the same number, it must be the same number.
void merge(std::optional<double>& number, std::optional<double> other, const std::string& what,
           const Fields& fields) {
  if (number && other && *number != *other) {
    fields.fail("contradictory " + what + ": " + show(*number) + " and " + show(*other));
  }
  if (other) number = other;
}

void read_rope(Fields& fields, Config& config) {
  Rope rope;
  if (fields.find("rope_theta") != nullptr) rope.theta = fields.positive<double>("rope_theta");
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (fields.find(key) == nullptr) continue;
    const Rope other = parse_rope(fields.object(key));
    merge(rope.theta, other.theta, "rope_theta", fields);
    merge(rope.factor, other.factor, "rope factors", fields);
  }
  if (!rope.theta) fields.fail("field 'rope_theta' is missing, also from 'rope_parameters'");
  config.rope_theta = *rope.theta;
  config.rope_factor = rope.factor.value_or(1);
}

}  // namespace

std::string_view name(Activation activation) {
  return std::find_if(named_activations.begin(), named_activations.end(),
                      [&](const auto& known) { return known.second == activation; })
      ->first;
}

Config Config::read(const std::filesystem::path& path) {
  const json document = read_json(path);
  if (!document.is_object()) throw Error(path.string() + ": no JSON object");
  Fields fields(document, path.string());

  if (const std::string type = fields.text("model_type"); type != "olmoe") {
    fields.fail("model_type is " + quote(type) + ", expected 'olmoe'");
  }

  // The numbers depend on these, and the defaults of transformers' class are not those of the
  // published checkpoints: all must be there, but for those whose absence can mean only one thing.
  Config config;
  config.hidden_size = fields.size("hidden_size");
  config.intermediate_size = fields.size("intermediate_size");
  config.num_hidden_layers = fields.size("num_hidden_layers");
  config.num_attention_heads = fields.size("num_attention_heads");
  config.num_key_value_heads = fields.find("num_key_value_heads") != nullptr
                                   ? fields.size("num_key_value_heads")
                                   : config.num_attention_heads;
  config.num_experts = fields.size("num_experts", max_experts);
  if (fields.find("num_local_experts") != nullptr &&
      fields.size("num_local_experts") != config.num_experts)
    fields.fail("num_local_experts is not num_experts, " + std::to_string(config.num_experts));
  config.num_experts_per_tok = fields.size("num_experts_per_tok", max_experts);
  config.norm_topk_prob = fields.flag("norm_topk_prob");
  config.vocab_size = fields.size("vocab_size");
  config.max_position_embeddings = fields.size("max_position_embeddings");
  config.rms_norm_eps = fields.positive<float>("rms_norm_eps");
  config.hidden_act = parse_activation(fields);
  read_rope(fields, config);
  config.attention_bias = fields.flag("attention_bias");
  if (fields.find("clip_qkv") != nullptr) config.clip_qkv = fields.positive<float>("clip_qkv");
  config.tie_word_embeddings = fields.flag("tie_word_embeddings");
  config.eos_token_ids = fields.ids("eos_token_id");
  config.bos_token_id = fields.id("bos_token_id");
  config.pad_token_id = fields.id("pad_token_id");

  const auto must_divide = [&](const std::string& divisor, int d, const std::string& size, int s) {
    if (s % d != 0) {
      fields.fail(divisor + " " + std::to_string(d) + " does not divide " + size + " " +
                  std::to_string(s));
    }
  };
  must_divide("num_attention_heads", config.num_attention_heads, "hidden_size", config.hidden_size);
  must_divide("num_key_value_heads", config.num_key_value_heads, "num_attention_heads",
              config.num_attention_heads);
  if (config.head_dim() % 2 != 0) {
    fields.fail("the head size " + std::to_string(config.head_dim()) +
                " (hidden_size / num_attention_heads) is odd, which rotary embedding excludes");
  }
  if (config.num_experts_per_tok > config.num_experts) {
    fields.fail("num_experts_per_tok " + std::to_string(config.num_experts_per_tok) +
                " exceeds num_experts " + std::to_string(config.num_experts));
  }
  if (fields.find("head_dim") != nullptr && fields.size("head_dim") != config.head_dim()) {
    fields.fail("head_dim is not hidden_size / num_attention_heads");
  }

  fields.finish(may_change_numbers);
  return config;
}

}  // namespace olmoe

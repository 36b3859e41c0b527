#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// The one reader of a sweep's files. They may come from elsewhere, as shards do: nothing in them
/// is believed before it has been checked, and what is not as it must be is an Error that names the
/// file and the field.
namespace olmoe {

/// A file of a sweep as JSON, the order of keys kept. Throws Error if it is no regular file, has
/// more than 64 MiB, nests deeper than 64 levels, has an object of more than 256 members, or is no
/// JSON.
nlohmann::ordered_json read_sweep_file(const std::filesystem::path& path);

/// A value in a file, and its place there: "FILE: result.evaluation.macro_nll". Every function
/// throws Error with that place if the value is not what it asks for.
class Field {
 public:
  /// The document of a file. `json` must outlive this.
  Field(const nlohmann::ordered_json& json, std::string file)
      : json_(&json), place_(std::move(file)), root_(true) {}

  const nlohmann::ordered_json& json() const { return *json_; }
  bool is_null() const { return json_->is_null(); }

  /// A member of an object.
  Field operator[](const char* key) const;
  bool has(const char* key) const { return json_->is_object() && json_->contains(key); }

  class Elements;
  /// The elements of an array that has `least` to `most` of them. They are made when asked for, so
  /// that a long array takes no more memory.
  Elements elements(std::size_t least, std::size_t most) const;

  /// A finite number in [low, high].
  double number(double low, double high) const;
  double number() const;
  std::int64_t integer(std::int64_t low, std::int64_t high) const;
  bool flag() const;
  const std::string& text() const;

  /// A text of one line, without control characters.
  const std::string& line() const;
  /// A line of 1 to 255 bytes.
  const std::string& label() const;
  /// A text that can be part of a file's name: 1 to 128 letters, digits and _-.=+, of which the
  /// first is neither . nor -.
  const std::string& name() const;

  [[noreturn]] void fail(const std::string& expected) const;

 private:
  Field(const nlohmann::ordered_json& json, std::string place, bool root)
      : json_(&json), place_(std::move(place)), root_(root) {}

  const nlohmann::ordered_json* json_;
  std::string place_;
  bool root_;  // then place_ is the file's name alone
};

class Field::Elements {
 public:
  class Iterator {
   public:
    Iterator(const Elements& elements, std::size_t index) : elements_(&elements), index_(index) {}
    Field operator*() const { return (*elements_)[index_]; }
    Iterator& operator++() {
      ++index_;
      return *this;
    }
    friend bool operator==(const Iterator&, const Iterator&) = default;

   private:
    const Elements* elements_;
    std::size_t index_;
  };

  explicit Elements(Field array) : array_(std::move(array)) {}

  std::size_t size() const { return array_.json().size(); }
  Field operator[](std::size_t index) const;
  Iterator begin() const { return {*this, 0}; }
  Iterator end() const { return {*this, size()}; }

 private:
  Field array_;
};

/// Whether Field::label() and Field::name() take a text.
bool is_label(std::string_view text);
bool is_name(std::string_view text);

struct Configuration;
struct SweepPlan;

/// Checks the inputs of a plan: all fields that results and report are made from.
void check_inputs(const Field& inputs);

/// Checks what was measured of one of the plan's configurations, whose inputs have been checked.
void check_result(const Field& result, const SweepPlan& plan, const Configuration& configuration);

/// Checks the timings of a configuration.
void check_timing(const Field& timing);

}  // namespace olmoe

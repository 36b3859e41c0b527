#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

#include "fdroute/detail/number/to_text.hpp"
#include "fdroute/detail/policy_string/closest.hpp"
#include "fdroute/errors.hpp"

namespace fdroute::inline v0::detail {

/// The arguments of a policy string, handed out by name. What was never asked for is an error, so a
/// reader of arguments is also the list of what it accepts. `preset:NAME,key=value` is
/// `NAME:key=value` for the name of a preset.
class PolicyArguments {
 public:
  [[gnu::cold]] explicit PolicyArguments(std::string_view text) : text_(text) {
    std::size_t name_end = std::min(text.find(':'), text.size());
    name_ = text.substr(0, name_end);
    if (name_ == "preset") {
      is_preset_ = true;
      const std::size_t begin = std::min(name_end + 1, text.size());
      name_position_ = begin;
      name_end = std::min(text.find(',', begin), text.size());
      name_ = text.substr(begin, name_end - begin);
    }
    if (name_end == text.size()) return;
    std::set<std::string_view> keys;
    std::size_t position = name_end + 1;
    while (true) {
      const std::size_t end = std::min(text.find(',', position), text.size());
      const std::string_view item = text.substr(position, end - position);
      const std::size_t equals = item.find('=');
      if (equals == std::string_view::npos || equals == 0 || equals + 1 == item.size())
        fail(position, "key=value expected, got " + quote(item));
      const std::string_view key = item.substr(0, equals);
      if (!keys.insert(key).second) fail(position, quote(key) + " is given twice");
      arguments_.push_back({key, item.substr(equals + 1), position});
      if (end == text.size()) return;
      position = end + 1;
    }
  }

  std::string_view text() const { return text_; }
  std::string_view name() const { return name_; }
  std::size_t name_position() const { return name_position_; }
  /// Whether the string is of the form `preset:NAME`.
  bool is_preset() const { return is_preset_; }

  [[noreturn, gnu::cold]] void fail(std::size_t position, const std::string& fact) const {
    detail::refuse("policy ", Quoted{text_}, ", position ", position + 1, ": ", fact);
  }

  template <class Number>
  [[gnu::cold]] Number number(std::string_view key, Number otherwise) {
    const Argument* argument = find(key);
    if (argument == nullptr) return otherwise;
    const char* const begin = argument->value.data();
    const char* const end = begin + argument->value.size();
    Number value{};
    const auto [stop, error] = std::from_chars(begin, end, value);
    if (error != std::errc{} || stop != end) {
      fail(value_position(*argument), std::string(key) + " takes " +
                                          (std::is_integral_v<Number> ? "an integer" : "a number") +
                                          ", got " + quote(argument->value));
    }
    return value;
  }

  [[gnu::cold]] std::string_view choice(std::string_view key,
                                        const std::vector<std::string_view>& accepted,
                                        std::string_view otherwise) {
    const Argument* argument = find(key);
    if (argument == nullptr) return otherwise;
    for (const std::string_view value : accepted) {
      if (argument->value == value) return value;
    }
    fail(value_position(*argument), std::string(key) + " is one of " + join(accepted) + ", got " +
                                        quote(argument->value) +
                                        did_you_mean(argument->value, accepted));
  }

  /// Whether there is an argument of this name, which counts as asked for.
  [[gnu::cold]] bool given(std::string_view key) { return find(key) != nullptr; }

  /// Throws `reason` at an argument's value, if it is given, else of the whole string.
  [[noreturn, gnu::cold]] void fail_at(std::string_view key, const std::string& reason) const {
    for (const Argument& argument : arguments_) {
      if (argument.key == key) fail(value_position(argument), reason);
    }
    detail::refuse("policy ", Quoted{text_}, ": ", reason);
  }

  /// Throws `reason` if the argument has this value.
  [[gnu::cold]] void refuse(std::string_view key, std::string_view value,
                            const std::string& reason) const {
    for (const Argument& argument : arguments_) {
      if (argument.key == key && argument.value == value) {
        fail(value_position(argument),
             std::string(key) + "=" + std::string(value) + " is refused: " + reason);
      }
    }
  }

  /// Throws unless every argument given has been asked for.
  [[gnu::cold]] void finish() const {
    for (const Argument& argument : arguments_) {
      if (!argument.used) {
        fail(argument.position, "unknown key " + quote(argument.key) +
                                    did_you_mean(argument.key, asked_) + "; " + std::string(name_) +
                                    " accepts " + join(asked_));
      }
    }
  }

  [[gnu::cold]] static std::string join(const std::vector<std::string_view>& words) {
    std::string text;
    for (const std::string_view word : words) text.append(text.empty() ? "" : ", ").append(word);
    return text;
  }

 private:
  struct Argument {
    std::string_view key;
    std::string_view value;
    std::size_t position;
    bool used = false;
  };

  [[gnu::cold]] const Argument* find(std::string_view key) {
    if (std::ranges::find(asked_, key) == asked_.end()) asked_.push_back(key);
    for (Argument& argument : arguments_) {
      if (argument.key != key) continue;
      argument.used = true;
      return &argument;
    }
    return nullptr;
  }

  static std::size_t value_position(const Argument& argument) {
    return argument.position + argument.key.size() + 1;
  }

  std::string_view text_;
  std::string_view name_;
  std::size_t name_position_ = 0;
  bool is_preset_ = false;
  std::vector<Argument> arguments_;
  std::vector<std::string_view> asked_;
};

}  // namespace fdroute::inline v0::detail

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

/// What subcommands say of their options. This covers CLI11, whose header takes longer to compile
/// than all subcommands together: command_line.cpp and help.cpp alone include it.
namespace olmoe {

/// One option, to be described further: command.option(...).required().shown_as("FILE").
class Option {
 public:
  explicit Option(CLI::Option& option) : option_(&option) {}

  const Option& required() const;

  /// What --help shows in the place of the value: "FILE".
  const Option& shown_as(const std::string& placeholder) const;

  /// --help shows the default: the variable's present value, or `text`.
  const Option& shows_default() const;
  const Option& shows_default(const std::string& text) const;

  /// It can be given only with `other`.
  const Option& needs(const Option& other) const;

  /// It takes one value each time that it is given; otherwise a list takes all that follow.
  const Option& one_at_a_time() const;

  /// A whole number in [low, high], a finite number of at least 0, a finite number above 0, one in
  /// [0, 1]; a usage error otherwise. `Integer` is int, std::int64_t or std::uint64_t, the
  /// variable's type.
  template <class Integer>
  const Option& whole_number(Integer low, Integer high = std::numeric_limits<Integer>::max()) const;
  const Option& at_least_0() const;
  const Option& above_0() const;
  const Option& from_0_to_1() const;

 private:
  CLI::Option* option_;
};

/// One subcommand, or a group of its options. Variables outlive the parsing: a subcommand keeps
/// them in a std::shared_ptr that its run() captures.
class Command {
 public:
  explicit Command(CLI::App& app, std::string heading = "Options")
      : app_(&app), heading_(std::move(heading)) {}

  /// An option that sets `value`: a std::string, std::filesystem::path, std::vector or
  /// std::optional of these, int, std::int64_t, std::uint64_t or double. A name without dashes is a
  /// positional.
  template <class Value>
  Option option(const std::string& names, Value& value, const std::string& description) const;

  /// An option that calls `set` with its text.
  Option option(const std::string& names, const std::function<void(const std::string&)>& set,
                const std::string& description) const;

  /// An option that names one of `values`. --help shows their names: "f32|bf16".
  template <class Value>
  Option choice(const std::string& names, Value& value,
                const std::vector<std::pair<std::string, Value>>& values,
                const std::string& description) const {
    std::vector<std::string> words;
    for (const auto& [word, unused] : values) words.push_back(word);
    return choice(
        names, words, [&value, values](std::size_t i) { value = values[i].second; }, description);
  }

  /// An option that sets `value` to one of `words`.
  Option word(const std::string& names, std::string& value, const std::vector<std::string>& words,
              const std::string& description) const;

  /// An option for a number of bytes with a unit: 500MB (10^6), 4GiB (2^30).
  Option bytes(const std::string& names, std::uint64_t& value,
               const std::string& description) const;

  Option flag(const std::string& names, bool& value, const std::string& description) const;

  /// A flag that calls `set`.
  Option flag(const std::string& names, const std::function<void()>& set,
              const std::string& description) const;

  /// A group of options of which exactly one must be given; --help shows them under `heading`.
  Command exactly_one_of(const std::string& heading) const;

  /// The command again: what is added to this one stands under `heading` in --help.
  Command under(const std::string& heading) const { return Command(*app_, heading); }

  /// What --help ends with: a command that can be typed as it stands.
  void example(const std::string& command_line) const;

  /// What the subcommand does, when all options are read.
  void runs(const std::function<void()>& action) const;

 private:
  Option choice(const std::string& names, const std::vector<std::string>& words,
                const std::function<void(std::size_t)>& choose,
                const std::string& description) const;
  Option added(CLI::Option& option) const;

  CLI::App* app_;
  std::string heading_;
};

class CommandLine {
 public:
  explicit CommandLine(const std::string& description);
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;
  ~CommandLine();

  /// The subcommands that follow stand under this heading in --help.
  void heading(const std::string& heading) { heading_ = heading; }

  Command subcommand(const std::string& name, const std::string& description);

  /// Reads the arguments and runs the subcommand that they name. Returns the program's exit code:
  /// 0, 1 for a failure, 2 for a usage error (CLI11's or std::invalid_argument); an error is one
  /// line on stderr, whatever it quotes. Of a word that is nearly right, it names the right one.
  int run(int argc, char** argv);

 private:
  void check_subcommand(int argc, char** argv) const;
  std::string usage_error(const std::exception& error) const;

  std::unique_ptr<CLI::App> app_;
  std::string heading_;
};

}  // namespace olmoe

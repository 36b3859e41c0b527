#include "cli/command_line.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fdroute/detail/policy_string/closest.hpp>
#include <fdroute/version.hpp>
#include <filesystem>
#include <iostream>
#include <new>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <type_traits>

#include "cli/help.hpp"
#include "formats/error.hpp"
#include "formats/json.hpp"

#define OLMOE_TEXT_OF(x) #x
#define OLMOE_TEXT(x) OLMOE_TEXT_OF(x)

namespace olmoe {
namespace {

/// A finite number that `accepts`, "of at least 0".
CLI::Validator finite_number(const std::function<bool(double)>& accepts, const std::string& range) {
  const auto check = [=](const std::string& text) -> std::string {
    double value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool number = error == std::errc{} && end == text.data() + text.size();
    if (number && std::isfinite(value) && accepts(value)) return {};
    return quote(text) + " is not a finite number" + range;
  };
  return {check, ""};
}

/// " (did you mean 'alpha'?)", or nothing if no word is near.
std::string did_you_mean(const std::string& word, const std::vector<std::string>& words) {
  const std::vector<std::string_view> views(words.begin(), words.end());
  return fdroute::detail::did_you_mean(word, views);
}

/// The names of a subcommand's options and of those of its groups, with their dashes.
void add_names(const CLI::App& app, std::vector<std::string>& names) {
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& word : option->get_lnames()) names.push_back("--" + word);
  }
  for (const CLI::App* part : app.get_subcommands({})) {
    if (part->get_name().empty()) add_names(*part, names);
  }
}

/// Of an empty text CLI11 asks no validator; an empty path would mean the working directory.
void check_paths(const CLI::App& app) {
  constexpr std::array<std::string_view, 2> placeholders{"FILE", "DIR"};
  const auto is_path = [&](const CLI::Option& option) {
    const std::string type = option.get_type_name();
    return std::ranges::any_of(
        placeholders, [&](std::string_view word) { return type.find(word) != std::string::npos; });
  };
  for (const CLI::Option* option : app.get_options()) {
    if (is_path(*option) && std::ranges::count(option->results(), "") > 0)
      throw CLI::ValidationError(option->get_name(), "is empty");
  }
  for (const CLI::App* group : app.get_subcommands({})) check_paths(*group);
}

std::string joined(const std::vector<std::string>& words, const char* separator) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : separator) + word;
  return text;
}

/// One line on stderr, whatever the message quotes.
void complain(const std::string& error, const std::string& advice = "") {
  const std::string_view begin = "olmoe: ";
  const std::size_t rest = message_limit - begin.size() - advice.size();
  std::cerr << begin << one_line(error, rest) << advice << '\n';
}

/// --help of the program and of its subcommands.
class Formatter : public CLI::FormatterBase {
 public:
  std::string make_help(const CLI::App* app, std::string, CLI::AppFormatMode) const override {
    return help_text(*app);
  }
};

/// The exit code of a program that has done its work: what it has printed may not fit its place.
int finish_output() {
  constexpr int failure = 1;
  std::cout.flush();
  if (std::cout && std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return 0;
  std::cerr << "olmoe: cannot write to standard output\n";
  return failure;
}

}  // namespace

const Option& Option::required() const {
  option_->required();
  return *this;
}

const Option& Option::shown_as(const std::string& placeholder) const {
  option_->type_name(placeholder);
  return *this;
}

const Option& Option::shows_default() const {
  option_->capture_default_str();
  return *this;
}

const Option& Option::shows_default(const std::string& text) const {
  option_->default_str(text);
  return *this;
}

const Option& Option::one_at_a_time() const {
  option_->allow_extra_args(false);
  return *this;
}

const Option& Option::needs(const Option& other) const {
  option_->needs(other.option_);
  return *this;
}

/// CLI11's own conversion takes what does not fit the type for its largest value and, of an
/// unsigned type, -1 too.
template <class Integer>
const Option& Option::whole_number(Integer low, Integer high) const {
  const auto check = [=](const std::string& text) -> std::string {
    Integer value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc{} && end == text.data() + text.size() && value >= low && value <= high)
      return {};
    if (high == std::numeric_limits<Integer>::max())
      return quote(text) + " is not a whole number of at least " + std::to_string(low) +
             (error == std::errc::result_out_of_range ? ", or too large for one" : "");
    return quote(text) + " is not a whole number from " + std::to_string(low) + " to " +
           std::to_string(high);
  };
  option_->check(CLI::Validator(check, ""));
  return *this;
}

template const Option& Option::whole_number(int, int) const;
template const Option& Option::whole_number(std::int64_t, std::int64_t) const;
template const Option& Option::whole_number(std::uint64_t, std::uint64_t) const;

const Option& Option::at_least_0() const {
  option_->check(finite_number([](double x) { return x >= 0.0; }, " of at least 0"));
  return *this;
}

const Option& Option::above_0() const {
  option_->check(finite_number([](double x) { return x > 0.0; }, " above 0"));
  return *this;
}

const Option& Option::from_0_to_1() const {
  option_->check(finite_number([](double x) { return x >= 0.0 && x <= 1.0; }, " from 0 to 1"));
  return *this;
}

template <class Value>
Option Command::option(const std::string& names, Value& value,
                       const std::string& description) const {
  CLI::Option& option = *app_->add_option(names, value, description);
  if constexpr (std::is_same_v<Value, double>)
    option.check(finite_number([](double) { return true; }, ""));
  return added(option);
}

template Option Command::option(const std::string&, int&, const std::string&) const;
template Option Command::option(const std::string&, std::int64_t&, const std::string&) const;
template Option Command::option(const std::string&, std::uint64_t&, const std::string&) const;
template Option Command::option(const std::string&, double&, const std::string&) const;
template Option Command::option(const std::string&, std::string&, const std::string&) const;
template Option Command::option(const std::string&, std::optional<int>&, const std::string&) const;
template Option Command::option(const std::string&, std::optional<std::string>&,
                                const std::string&) const;
template Option Command::option(const std::string&, std::vector<std::string>&,
                                const std::string&) const;
template Option Command::option(const std::string&, std::filesystem::path&,
                                const std::string&) const;
template Option Command::option(const std::string&, std::vector<std::filesystem::path>&,
                                const std::string&) const;

Option Command::option(const std::string& names, const std::function<void(const std::string&)>& set,
                       const std::string& description) const {
  return added(*app_->add_option_function<std::string>(names, set, description));
}

Option Command::choice(const std::string& names, const std::vector<std::string>& words,
                       const std::function<void(std::size_t)>& choose,
                       const std::string& description) const {
  const auto place = [words](const std::string& text) {
    return static_cast<std::size_t>(std::find(words.begin(), words.end(), text) - words.begin());
  };
  const auto check = [words, place](const std::string& text) -> std::string {
    if (place(text) < words.size()) return {};
    return quote(text) + " is not one of: " + joined(words, ", ") + did_you_mean(text, words);
  };
  const auto set = [choose, place](const std::string& text) { choose(place(text)); };
  return added(*app_->add_option_function<std::string>(names, set, description)
                    ->check(CLI::Validator(check, ""))
                    ->type_name(joined(words, "|")));
}

Option Command::word(const std::string& names, std::string& value,
                     const std::vector<std::string>& words, const std::string& description) const {
  return choice(
      names, words, [&value, words](std::size_t i) { value = words[i]; }, description);
}

Option Command::bytes(const std::string& names, std::uint64_t& value,
                      const std::string& description) const {
  // CLI11 takes -1 for the largest size, so the sign is checked first: the last transformation that
  // is added is the first that is applied.
  const auto begins_with_digit = [](std::string& text) -> std::string {
    if (!text.empty() && text.front() >= '0' && text.front() <= '9') return {};
    return quote(text) + " is not a size";
  };
  const auto above_zero = [](const std::string& text) -> std::string {
    return text == "0" ? "a size must be above 0" : "";
  };
  return added(*app_->add_option(names, value, description)
                    ->check(CLI::Validator(above_zero, ""))
                    ->transform(CLI::AsSizeValue(true).description(""))
                    ->transform(CLI::Validator(begins_with_digit, "")));
}

Option Command::flag(const std::string& names, bool& value, const std::string& description) const {
  return added(*app_->add_flag(names, value, description));
}

Option Command::flag(const std::string& names, const std::function<void()>& set,
                     const std::string& description) const {
  return added(*app_->add_flag_callback(names, set, description));
}

Option Command::added(CLI::Option& option) const {
  option.group(heading_);
  return Option(option);
}

Command Command::exactly_one_of(const std::string& heading) const {
  CLI::Option_group& group = *app_->add_option_group(heading);
  group.require_option(1);
  return Command(group, heading + " (exactly one)");
}

void Command::example(const std::string& command_line) const {
  app_->footer(command_line);
}

void Command::runs(const std::function<void()>& action) const {
  app_->callback([app = app_, action] {
    check_paths(*app);
    action();
  });
}

CommandLine::CommandLine(const std::string& description)
    : app_(std::make_unique<CLI::App>(description)) {
  app_->set_version_flag("--version",
                         OLMOE_TEXT(FDROUTE_VERSION_MAJOR) "." OLMOE_TEXT(
                             FDROUTE_VERSION_MINOR) "." OLMOE_TEXT(FDROUTE_VERSION_PATCH),
                         "Say the version and end");
  app_->require_subcommand(1);
  app_->formatter(std::make_shared<Formatter>());
  app_->set_help_flag("-h,--help", "Say this and end");
  app_->get_help_ptr()->group("General");
  app_->get_option("--version")->group("General");
}

CommandLine::~CommandLine() = default;

Command CommandLine::subcommand(const std::string& name, const std::string& description) {
  CLI::App* const command = app_->add_subcommand(name, description);
  command->group(heading_);
  command->get_help_ptr()->group("General");
  return Command(*command);
}

/// CLI11 only says that one is required.
void CommandLine::check_subcommand(int argc, char** argv) const {
  if (argc > 1 && argv[1][0] == '-') return;
  std::vector<std::string> names;
  for (const CLI::App* command : app_->get_subcommands({})) names.push_back(command->get_name());
  if (argc < 2)
    throw std::invalid_argument("a subcommand is required; there are " + joined(names, ", ") +
                                " (see olmoe --help)");
  if (std::find(names.begin(), names.end(), argv[1]) != names.end()) return;
  throw std::invalid_argument("no subcommand " + quote(argv[1]) + did_you_mean(argv[1], names) +
                              "; there are " + joined(names, ", "));
}

/// What CLI11 found wrong; but an option that there is not explains why another is missing.
std::string CommandLine::usage_error(const std::exception& error) const {
  for (const CLI::App* command : app_->get_subcommands()) {
    for (const std::string& argument : command->remaining()) {
      if (argument.size() < 2 || argument.front() != '-') continue;
      std::vector<std::string> names;
      add_names(*command, names);
      const std::string name = argument.substr(0, argument.find('='));
      return command->get_name() + " has no option " + quote(name) + did_you_mean(name, names);
    }
    if (const auto rest = command->remaining(); !rest.empty())
      return command->get_name() + " takes no argument " + quote(rest.front());
  }
  // CLI11's sentence of a choice: "Exactly 1 option from [-p,--text,--decode] is required".
  const std::string text = error.what();
  const std::size_t begin = text.find("option from [");
  const std::size_t end = text.find(']');
  if (begin == std::string::npos || end == std::string::npos) return text;
  std::vector<std::string> choices;
  for (std::size_t at = text.find("--"); at < end; at = text.find("--", at + 2))
    choices.push_back(text.substr(at, text.find_first_of(",]", at) - at));
  return "one of " + joined(choices, ", ") + text.substr(end + 1);
}

int CommandLine::run(int argc, char** argv) {
  constexpr int failure = 1;
  constexpr int usage = 2;
  try {
    check_subcommand(argc, argv);
    app_->parse(argc, argv);
    return finish_output();
  } catch (const CLI::Success& request) {  // for help or the version
    app_->exit(request);
    return finish_output();
  } catch (const CLI::ParseError& error) {
    const auto commands = app_->get_subcommands();
    complain(
        usage_error(error),
        " (see olmoe " + (commands.empty() ? "" : commands.front()->get_name() + " ") + "--help)");
    return usage;
  } catch (const std::invalid_argument& error) {
    complain(error.what());
    return usage;
  } catch (const std::bad_alloc&) {
    std::cerr << "olmoe: out of memory\n";
    return failure;
  } catch (const std::exception& error) {
    complain(error.what());
    return failure;
  }
}

}  // namespace olmoe

#include "cli/help.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string_view>
#include <vector>

namespace olmoe {
namespace {

constexpr std::size_t help_width = 80;
constexpr std::size_t help_column = 27;  // where descriptions begin

/// "  NAME      words, wrapped to the right of the column".
std::string entry(const std::string& name, std::string_view words) {
  std::string text = "  " + name;
  std::size_t at = text.size();
  const auto to_column = [&] {
    text += at + 2 > help_column ? "\n" + std::string(help_column, ' ')
                                 : std::string(help_column - at, ' ');
    at = help_column;
  };
  to_column();
  while (!words.empty()) {
    const std::string_view word = words.substr(0, words.find(' '));
    words.remove_prefix(std::min(word.size() + 1, words.size()));
    if (at > help_column && at + 1 + word.size() > help_width) to_column();
    if (at > help_column) {
      text += ' ';
      ++at;
    }
    text += word;
    at += word.size();
  }
  return text + "\n";
}

/// "-m, --model DIR", or "DIR..." of a positional.
std::string name_of(const CLI::Option& option) {
  std::string name;
  for (const std::string& letter : option.get_snames()) name += "-" + letter + ", ";
  for (const std::string& word : option.get_lnames()) name += "--" + word + ", ";
  if (!name.empty()) name.resize(name.size() - 2);
  if (option.get_snames().empty() && !name.empty()) name.insert(0, "    ");
  if (option.get_expected_max() == 0) return name;
  return name + (name.empty() ? "" : " ") + option.get_type_name();
}

std::string about(const CLI::Option& option, bool one_of_several) {
  std::string text = option.get_description();
  if (!option.get_default_str().empty()) text += " [default: " + option.get_default_str() + "]";
  if (option.get_required() && !one_of_several) text += " (required)";
  return text;
}

struct Section {
  std::string heading;
  std::string entries;
};

Section& section(std::vector<Section>& sections, const std::string& heading) {
  const auto found = std::ranges::find(sections, heading, &Section::heading);
  if (found != sections.end()) return *found;
  return sections.emplace_back(Section{heading, ""});
}

/// The options of a subcommand, or of a part of it that has one of several.
void add_options(const CLI::App& app, bool is_part, std::vector<Section>& sections) {
  for (const CLI::Option* option : app.get_options()) {
    if (is_part && option == app.get_help_ptr()) continue;
    section(sections, option->get_group()).entries +=
        entry(name_of(*option), about(*option, is_part));
  }
}

}  // namespace

std::string help_text(const CLI::App& app) {
  std::vector<Section> sections;
  std::string arguments;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) arguments += " " + option->get_type_name();
  }
  std::string text = "Usage: olmoe " +
                     std::string(app.get_parent() == nullptr ? "COMMAND" : app.get_name()) +
                     " [OPTION]..." + arguments + "\n\n" + app.get_description() + ".\n";
  for (const CLI::App* command : app.get_subcommands({})) {
    if (!command->get_name().empty())
      section(sections, command->get_group()).entries +=
          entry(command->get_name(), command->get_description());
  }
  section(sections, "Options");  // the first, and then those of which one must be given
  for (const CLI::App* part : app.get_subcommands({})) {
    if (part->get_name().empty()) add_options(*part, true, sections);
  }
  add_options(app, false, sections);
  // What every command has comes last.
  std::stable_partition(sections.begin(), sections.end(),
                        [](const Section& s) { return s.heading != "General"; });
  for (const Section& s : sections) {
    if (!s.entries.empty()) text += "\n" + s.heading + ":\n" + s.entries;
  }
  if (!app.get_footer().empty()) text += "\nExample:\n  " + app.get_footer() + "\n";
  if (app.get_parent() == nullptr) text += "\nolmoe COMMAND --help says more of a command.\n";
  return text;
}

}  // namespace olmoe

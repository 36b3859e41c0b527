#include <algorithm>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "cli/commands.hpp"
#include "cli/common_options.hpp"
#include "cli/input.hpp"
#include "formats/error.hpp"
#include "formats/json.hpp"
#include "tokenizer/tokenizer.hpp"

namespace olmoe {
namespace {

struct TokenizeOptions {
  std::string model;
  // Exactly one of these is given.
  std::optional<std::string> text;
  std::optional<std::string> file;
  std::optional<std::string> jsonl;
  std::optional<std::string> ids;
};

void print(std::span<const std::int32_t> ids) {
  std::string line = "[";
  for (const std::int32_t id : ids) {
    if (line.size() > 1) line += ',';
    line += std::to_string(id);
  }
  std::cout << line << "]\n";
}

// Ids as a JSON array, or separated by commas or white space.
std::vector<std::int32_t> parse_ids(std::string_view list) {
  constexpr std::string_view space = " \t\r\n";
  constexpr std::string_view separators = ", \t\r\n";
  list.remove_prefix(std::min(list.find_first_not_of(space), list.size()));
  list.remove_suffix(list.size() - (list.find_last_not_of(space) + 1));
  if (list.starts_with('[') && list.ends_with(']')) list = list.substr(1, list.size() - 2);
  std::vector<std::int32_t> ids;
  while (true) {
    list.remove_prefix(std::min(list.find_first_not_of(separators), list.size()));
    if (list.empty()) return ids;
    const std::string_view word = list.substr(0, list.find_first_of(separators));
    list.remove_prefix(word.size());
    std::int32_t id = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc{} || end != word.data() + word.size() || id < 0)
      throw std::invalid_argument("--decode: " + quote(word) + " is not a token id");
    ids.push_back(id);
  }
}

void tokenize_lines(const Tokenizer& tokenizer, Input input) {
  std::string line;
  for (std::size_t number = 1; input.read_line(line); ++number) {
    const std::string origin = input.name() + ": line " + std::to_string(number);
    const nlohmann::json text = parse_json(line, origin);
    if (!text.is_string()) throw Error(origin + ": expected a JSON string, got " + show(text));
    print(tokenizer.encode(text.get_ref<const std::string&>(), origin));
  }
}

void run(const TokenizeOptions& options) {
  const auto tokenizer = Tokenizer::load(std::filesystem::path(options.model) / "tokenizer.json");
  if (options.text) {
    print(tokenizer.encode(*options.text, "--text"));
  } else if (options.file) {
    Input input(*options.file);
    print(tokenizer.encode(input.read_all(), input.name()));
  } else if (options.jsonl) {
    tokenize_lines(tokenizer, Input(*options.jsonl));
  } else {
    std::cout << tokenizer.decode(parse_ids(options.ids.value())) << '\n';
  }
}

}  // namespace

void add_tokenize(CommandLine& line) {
  const Command command = line.subcommand("tokenize", "Turn text into token ids, or ids into text");
  const auto options = std::make_shared<TokenizeOptions>();
  command.option("-m,--model", options->model, "Directory with a Hugging Face tokenizer.json")
      .required()
      .shown_as("DIR");
  const Command input = command.exactly_one_of("Input");
  input.option("-p,--text", options->text, "Text; prints its ids as a JSON array").shown_as("TEXT");
  input.option("-f,--file", options->file, "A file whose whole content is the text; - is stdin")
      .shown_as("FILE");
  input
      .option("--jsonl", options->jsonl,
              "A file with a text per line, as a JSON string; prints an array per line; - is "
              "stdin")
      .shown_as("FILE");
  input
      .option("--decode", options->ids,
              "Ids to turn into text: a JSON array, or separated by commas or spaces")
      .shown_as("IDS");
  add_threads_option(command);
  command.example("olmoe tokenize -m reference/model -p 'In the beginning'");
  command.runs([options] { run(*options); });
}

}  // namespace olmoe

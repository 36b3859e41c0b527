#pragma once

#include <fstream>
#include <istream>
#include <string>
#include <vector>

namespace olmoe {

/// An input file; "-" is standard input. Throws Error, naming the file, if it cannot be read or is
/// no regular file.
class Input {
 public:
  explicit Input(const std::string& path);

  /// For messages: the path, or "standard input".
  const std::string& name() const { return name_; }

  std::string read_all();

  /// The next line without its end; false if there is none.
  bool read_line(std::string& line);

 private:
  std::istream& stream();
  [[noreturn]] void fail() const;

  std::string name_;
  std::ifstream file_;
};

/// A text, and where it comes from, for messages.
struct InputText {
  std::string text;
  std::string origin;
};

/// The texts of parse_prompts() from a file, or "-" for standard input. Throws Error.
std::vector<InputText> read_prompt_list(const std::string& path);

}  // namespace olmoe

#pragma once

#include <string>

namespace CLI {
class App;
}  // namespace CLI

namespace olmoe {

/// What --help prints of the program or of one of its subcommands: usage, options under their
/// headings with placeholder and default, an example. At most 80 columns wide, in the form that
/// help2man reads.
std::string help_text(const CLI::App& app);

}  // namespace olmoe

#pragma once

#include <stdexcept>

namespace olmoe {

/// Something outside the program (a file, its contents, an argument) is not as it must be. what()
/// is one line that names the file and the fact.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace olmoe

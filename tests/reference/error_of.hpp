#pragma once

#include <string>

#include "formats/error.hpp"

/// The message of the olmoe::Error that `action` throws; "no error" if it throws none.
template <class Action>
std::string error_of(Action&& action) {
  try {
    action();
  } catch (const olmoe::Error& error) {
    return error.what();
  }
  return "no error";
}

#pragma once

#include <filesystem>
#include <string_view>

namespace olmoe {

/// Writes a file such that its name always holds a whole file, the old one or the new one, even if
/// the process is killed or the power fails: see TemporaryFile. Throws Error.
void write_atomically(const std::filesystem::path& path, std::string_view contents);

/// Makes a directory with its parents, and writes their names to the disk; none of them needs to be
/// new. Throws Error.
void make_directories(const std::filesystem::path& path);

}  // namespace olmoe

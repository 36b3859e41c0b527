#pragma once

#include <filesystem>
#include <string_view>

namespace olmoe {

/// A name for a temporary file in the directory of `path`, to be renamed to it: "PATH.tmpPID".
/// Those that processes now dead left of `path` are removed.
std::filesystem::path temporary_beside(const std::filesystem::path& path);

/// Writes a file such that its name always holds a whole file, the old one or the new one, even if
/// the process is killed: a temporary file in the same directory, synchronised, then renamed.
/// Throws Error.
void write_atomically(const std::filesystem::path& path, std::string_view contents);

/// Makes a directory with its parents; none of them needs to be new. Throws Error.
void make_directories(const std::filesystem::path& path);

}  // namespace olmoe

// The C interface's nulls file, read by the reference's own loader.

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "c_api/c_api.hpp"
#include "routing/nulls.hpp"

fdroute_status fdroute_null_load(const char* path, int32_t layer, fdroute_null** null) {
  return fdroute_c::guarded([&] {
    fdroute_c::given(null, "null");
    std::vector<fdroute::TabulatedNull> tables = olmoe::load_nulls(fdroute_c::given(path, "path"));
    const auto layers = static_cast<std::int64_t>(tables.size());
    if (layer < 0 || layer >= layers) {
      throw std::invalid_argument(std::string(path) + ": layer must lie in [0, " +
                                  std::to_string(layers) + "), got " + std::to_string(layer));
    }
    *null = new fdroute_null{.table = std::move(tables[static_cast<std::size_t>(layer)])};
  });
}

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "forward/routing_source.hpp"

/// Which tokens share what is loaded of a layer's experts.
namespace olmoe {

struct Grouping {
  enum class Kind : std::uint8_t {
    /// The i-th tokens of the sequences that are run together are a group, for every i: so in
    /// decoding are all of them. `size` sequences are run together.
    batch,
    /// `size` tokens of a sequence that follow each other are a group, from every position that is
    /// a multiple of `size`, as far as they are run at once: what verifies a draft.
    consecutive,
    /// A sequence's tokens are taken one by one, each a group: it loads what a cache of `size`
    /// experts a layer lacks, of which the least recently used leave first.
    cache
  };

  Kind kind = Kind::batch;
  int size = 1;

  friend bool operator==(const Grouping&, const Grouping&) = default;
};

/// Reads "batch:16", "consecutive:8" or "cache:16". Throws std::invalid_argument for anything else.
Grouping parse_grouping(const std::string& text);

/// What parse_grouping() reads back.
std::string to_text(const Grouping& grouping);

/// (rows of `stretches`): the group of each row that is run, 0 <= group < the number of groups,
/// which is one more than the largest. Throws std::invalid_argument for a cache, whose tokens have
/// an order.
std::vector<std::size_t> groups_of(const Grouping& grouping, std::span<const Stretch> stretches);

}  // namespace olmoe

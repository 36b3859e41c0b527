#include "sweep/claims.hpp"

#include <algorithm>
#include <cstddef>

namespace olmoe {

const SweepRow* TestedFamily::largest_saving() const {
  const SweepRow* best = nullptr;
  for (const TestedRow& tested : rows) {
    if (tested.claimed && (best == nullptr || tested.row->reduction > best->reduction))
      best = tested.row;
  }
  return best;
}

std::vector<TestedFamily> test_families(const std::vector<SweepRow>& rows, double margin) {
  std::vector<TestedFamily> families;
  for (const SweepRow& row : rows) {
    if (!row.adaptive || !row.repeats.empty()) continue;
    const std::string& name = row.configuration.family;
    auto family = std::find_if(families.begin(), families.end(),
                               [&](const TestedFamily& f) { return f.name == name; });
    if (family == families.end()) family = families.insert(family, {name, {}});
    family->rows.push_back({&row, p_not_below(row.delta, margin)});
  }
  std::vector<std::vector<double>> p;
  for (const TestedFamily& family : families) {
    std::vector<double>& of_family = p.emplace_back();
    for (const TestedRow& tested : family.rows) of_family.push_back(tested.p);
  }
  const auto rejected = test_in_sequence(p, claim_level);
  for (std::size_t f = 0; f < families.size(); ++f) {
    for (std::size_t i = 0; i < rejected[f]; ++i) families[f].rows[i].claimed = true;
  }
  return families;
}

}  // namespace olmoe

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

/// What a saving of experts costs, and whether that is too much: inference over documents.
/// docs/experiments.md, "The plan", says how a sweep uses it.
namespace olmoe {

/// A mean over documents, each weighing the same, as an estimate for new documents.
struct DocumentMean {
  std::int64_t documents = 0;
  double value = 0.0;
  double error = 0.0;  ///< sd / sqrt(documents), sd with documents - 1; 0 for a single document

  double degrees_of_freedom() const { return static_cast<double>(documents) - 1.0; }
};

/// With fewer documents than these nothing is claimed: what is measured is descriptive.
inline constexpr std::int64_t least_documents = 10;

DocumentMean document_mean(std::span<const double> values);

struct Interval {
  double low = 0.0;
  double high = 0.0;
};

/// value -+ t error, t the (1 + confidence) / 2 quantile of Student's distribution with
/// documents - 1 degrees of freedom. Needs two documents; throws std::invalid_argument otherwise.
Interval interval(const DocumentMean& mean, double confidence);

/// p-value of "the mean over new documents is `margin` or more", for delta = `mean`:
///
///     P(T >= (margin - delta) / error),  T of documents - 1 degrees of freedom
///
/// It is at most 0.05 exactly if delta + t(0.95) error < margin. 1 with fewer than
/// `least_documents`. An error of 0 gives 0 or 1.
double p_not_below(const DocumentMean& mean, double margin);

/// Two-sided p-value of "the mean over new documents is 0"; 1 with fewer than `least_documents`.
double p_zero(const DocumentMean& mean);

/// Tests families of hypotheses, each in its fixed order.
///
///     level = alpha / number of families with hypotheses left
///
/// Each family's first hypothesis that is left is rejected if its p-value is at most the level; a
/// family whose first is not stops there. A family without hypotheses left gives its share to the
/// others, so that the levels grow until nothing is rejected. The probability of any false
/// rejection is at most alpha whatever the dependence: it is the graph of Bretz, Maurer, Brannath
/// and Posch (2009, doi:10.1002/sim.3495) with chains of equal weight; with one hypothesis a family
/// it is Holm's procedure, with one family the fixed sequence test.
///
/// `p`: (families) x (hypotheses of the family, in order). Returns (families): how many of each
/// are rejected, its first ones.
std::vector<std::size_t> test_in_sequence(const std::vector<std::vector<double>>& p, double alpha);

}  // namespace olmoe

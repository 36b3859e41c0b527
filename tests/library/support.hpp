#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "fdroute/execution.hpp"
#include "fdroute/null/tabulated.hpp"
#include "fdroute/views.hpp"
#include "library/oracle.hpp"

namespace test {

namespace fd = fdroute;

inline constexpr float nan = std::numeric_limits<float>::quiet_NaN();
inline constexpr float infinity = std::numeric_limits<float>::infinity();

constexpr std::size_t index(std::ptrdiff_t i) {
  return static_cast<std::size_t>(i);
}

/// The message of the std::invalid_argument that `action` throws; "no error" if it throws none.
template <class Action>
std::string rejection_of(Action&& action) {
  try {
    action();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "no error";
}

inline fd::NullProvenance fitted_on(std::string score) {
  fd::NullProvenance provenance;
  provenance.score = std::move(score);
  return provenance;
}

/// splitmix64: the same numbers on every platform.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t bits() {
    std::uint64_t z = state_ += 0x9E37'79B9'7F4A'7C15U;
    z = (z ^ (z >> 30)) * 0xBF58'476D'1CE4'E5B9U;
    z = (z ^ (z >> 27)) * 0x94D0'49BB'1331'11EBU;
    return z ^ (z >> 31);
  }

  /// In [0, 1).
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }

  int below(int n) { return static_cast<int>(bits() % static_cast<std::uint64_t>(n)); }

  /// Near enough to normal, with mean 0 and deviation 1.
  float normal() {
    double sum = -6.0;
    for (int i = 0; i < 12; ++i) sum += uniform();
    return static_cast<float>(sum);
  }

  template <class T>
  void shuffle(std::vector<T>& values) {
    for (std::size_t i = values.size(); i > 1; --i)
      std::swap(values[i - 1], values[index(below(static_cast<int>(i)))]);
  }

 private:
  std::uint64_t state_;
};

/// The kinds of rows a router may meet.
enum class Rows {
  random,
  one_strong,
  quantised,  // many ties
  constant,
  signed_zeros,
  some_nan,
  some_infinite,
  mixed,
  denormal,
  huge,
  all_nan,
  all_minus_inf,
  all_plus_inf,
};

inline constexpr std::array every_kind{
    Rows::random,   Rows::one_strong,    Rows::quantised,   Rows::constant, Rows::signed_zeros,
    Rows::some_nan, Rows::some_infinite, Rows::mixed,       Rows::denormal, Rows::huge,
    Rows::all_nan,  Rows::all_minus_inf, Rows::all_plus_inf};

inline float random_logit(Rows kind, Random& random) {
  constexpr float denormal = std::numeric_limits<float>::denorm_min();
  switch (kind) {
    case Rows::random:
    case Rows::one_strong:
      return 2.0F * random.normal();
    case Rows::quantised:
      return std::round(2.0F * random.normal()) / 2.0F;
    case Rows::constant:
      return 0.7F;
    case Rows::signed_zeros:
      return random.below(2) == 0 ? 0.0F : -0.0F;
    case Rows::some_nan:
      return random.below(5) == 0 ? nan : 2.0F * random.normal();
    case Rows::some_infinite: {
      const int draw = random.below(12);
      return draw == 0 ? infinity : draw < 4 ? -infinity : 2.0F * random.normal();
    }
    case Rows::mixed: {
      constexpr std::array kinds{Rows::random,  Rows::quantised,     Rows::signed_zeros,
                                 Rows::huge,    Rows::some_infinite, Rows::some_nan,
                                 Rows::denormal};
      return random_logit(kinds[index(random.below(static_cast<int>(kinds.size())))], random);
    }
    case Rows::denormal:
      return denormal * static_cast<float>(random.below(2'000'001) - 1'000'000);
    case Rows::huge:
      return static_cast<float>((2.0 * random.uniform() - 1.0) * 3.4e38);
    case Rows::all_nan:
      return nan;
    case Rows::all_minus_inf:
      return -infinity;
    case Rows::all_plus_inf:
      return infinity;
  }
  return nan;
}

inline std::vector<float> random_row(Rows kind, int experts, Random& random) {
  std::vector<float> row;
  for (int j = 0; j < experts; ++j) row.push_back(random_logit(kind, random));
  if (kind == Rows::one_strong) row[index(random.below(experts))] = 14.0F;
  return row;
}

/// A batch of rows, stored one after the other: shape (tokens, experts).
struct Batch {
  int experts = 0;
  std::vector<float> logits{};

  std::ptrdiff_t tokens() const {
    return static_cast<std::ptrdiff_t>(logits.size()) / std::ptrdiff_t{experts};
  }

  std::vector<float> row(std::ptrdiff_t token) const {
    const auto first = logits.begin() + token * experts;
    return {first, first + experts};
  }

  void add(const std::vector<float>& row) { logits.insert(logits.end(), row.begin(), row.end()); }

  fd::LogitsView<float> view() const { return {logits.data(), tokens(), experts}; }
};

/// `repeats` rows of every kind.
inline Batch batch_of_every_kind(int experts, int repeats, Random& random) {
  Batch batch{experts};
  for (int i = 0; i < repeats; ++i) {
    for (const Rows kind : every_kind) batch.add(random_row(kind, experts, random));
  }
  return batch;
}

/// `n` values between guards; everything holds the byte 0xA5 until written.
template <class T>
class Guarded {
 public:
  explicit Guarded(std::ptrdiff_t n) : values_(index(n) + 2 * guard, untouched()) {}

  T* data() { return values_.data() + guard; }
  const T& operator[](std::ptrdiff_t i) const { return values_[guard + index(i)]; }

  bool guards_intact() const {
    for (std::size_t i = 0; i < guard; ++i) {
      if (!same(values_[i], untouched()) || !same(values_[values_.size() - 1 - i], untouched()))
        return false;
    }
    return true;
  }

  /// Bit for bit.
  friend bool operator==(const Guarded& a, const Guarded& b) {
    return a.values_.size() == b.values_.size() &&
           std::memcmp(a.values_.data(), b.values_.data(), a.values_.size() * sizeof(T)) == 0;
  }

 private:
  static constexpr std::size_t guard = 32;

  static T untouched() {
    T value;
    std::memset(&value, 0xA5, sizeof value);
    return value;
  }

  static bool same(const T& a, const T& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

  std::vector<T> values_;
};

/// The caller's side of a padded routing.
template <class Id = std::int32_t>
struct Padded {
  Padded(std::ptrdiff_t n_tokens, int row_capacity, fd::Padding row_padding = {})
      : tokens(n_tokens), capacity(row_capacity), padding(row_padding) {}

  fd::RoutingView<Id> view() {
    return {experts.data(), weights.data(), counts.data(), capacity, padding, status.data()};
  }

  bool guards_intact() const {
    return experts.guards_intact() && weights.guards_intact() && counts.guards_intact() &&
           status.guards_intact();
  }

  friend bool operator==(const Padded& a, const Padded& b) {
    return a.experts == b.experts && a.weights == b.weights && a.counts == b.counts &&
           a.status == b.status;
  }

  std::ptrdiff_t tokens;
  int capacity;
  fd::Padding padding;
  Guarded<Id> experts{tokens * capacity};
  Guarded<float> weights{tokens * capacity};
  Guarded<std::int32_t> counts{tokens};
  Guarded<fd::TokenStatus> status{tokens};
};

/// Routes a batch; AnyPolicy is a Router or an AnyRouter.
template <class Id = std::int32_t, class AnyPolicy>
Padded<Id> routed(const AnyPolicy& router, fd::LogitsView<float> logits,
                  fd::Padding padding = fd::Padding::minus_one) {
  Padded<Id> out(logits.tokens, router.capacity(), padding);
  router.route(logits, out.view());
  return out;
}

/// The caller's side of a CSR routing, with room for `places` experts.
template <class Id = std::int32_t>
struct Csr {
  Csr(std::ptrdiff_t n_tokens, std::int64_t places)
      : tokens(n_tokens), experts(places), weights(places) {}

  fd::CsrView<Id> view() { return {offsets.data(), experts.data(), weights.data(), status.data()}; }

  bool guards_intact() const {
    return offsets.guards_intact() && experts.guards_intact() && weights.guards_intact() &&
           status.guards_intact();
  }

  std::ptrdiff_t tokens;
  Guarded<std::int64_t> offsets{tokens + 1};
  Guarded<Id> experts;
  Guarded<float> weights;
  Guarded<fd::TokenStatus> status{tokens};
};

/// What distinguishes a CSR routing from the padded one; empty if nothing does, bit for bit.
template <class Id>
std::string difference(const Csr<Id>& csr, const Padded<Id>& padded) {
  if (!csr.guards_intact()) return "written outside";
  if (csr.tokens != padded.tokens || csr.offsets[0] != 0) return "start";
  for (std::ptrdiff_t t = 0; t < csr.tokens; ++t) {
    const std::string token = "token " + std::to_string(t);
    if (csr.offsets[t + 1] - csr.offsets[t] != padded.counts[t]) return token + ": offsets";
    for (std::ptrdiff_t i = 0; i < padded.counts[t]; ++i) {
      const std::ptrdiff_t place = csr.offsets[t] + i;
      const std::ptrdiff_t expected = t * padded.capacity + i;
      if (csr.experts[place] != padded.experts[expected]) return token + ": experts";
      if (std::memcmp(&csr.weights[place], &padded.weights[expected], sizeof(float)) != 0)
        return token + ": weights";
    }
  }
  return csr.status == padded.status ? "" : "status";
}

/// What distinguishes route()'s CSR routing, by this execution, from its padded one.
template <class Id = std::int32_t, class AnyPolicy, class T, class E = fd::Serial>
std::string difference_of_csr(const AnyPolicy& router, fd::LogitsView<T> logits, E execution = {}) {
  Padded<Id> padded(logits.tokens, router.capacity());
  const fd::TokenStatus status = router.route(logits, padded.view());
  Csr<Id> csr(logits.tokens, logits.tokens * router.capacity());
  if (router.route(execution, logits, csr.view()) != status) return "returned status";
  const std::string with_status = difference(csr, padded);
  const fd::CsrView plain{csr.offsets.data(), csr.experts.data(), csr.weights.data()};
  if (router.route(execution, logits, plain) != status) return "returned status without statuses";
  return with_status + difference(csr, padded);
}

/// What distinguishes a token's routing from the definition's; empty if nothing does. Weights may
/// be 4 ulp from the double-precision value rounded to float, all else must be equal.
template <class Id>
std::string difference(const oracle::Token& expected, const Padded<Id>& actual,
                       std::ptrdiff_t token, const std::vector<float>& logits) {
  std::ostringstream text;
  const int count = static_cast<int>(expected.experts.size());
  if (actual.counts[token] != count) {
    text << "token " << token << ": count " << actual.counts[token] << ", expected " << count;
    return text.str();
  }
  const std::ptrdiff_t row = token * actual.capacity;
  for (int i = 0; i < count; ++i) {
    if (actual.experts[row + i] != expected.experts[index(i)]) {
      text << "token " << token << ", place " << i << ": expert " << actual.experts[row + i]
           << ", expected " << expected.experts[index(i)];
      return text.str();
    }
    const float weight = actual.weights[row + i];
    const auto rounded = static_cast<float>(expected.weights[index(i)]);
    if (!(oracle::ulps_between(weight, rounded) <= 4)) {
      text << "token " << token << ", place " << i << ": weight " << weight << ", expected "
           << rounded;
      return text.str();
    }
  }
  const auto padding = actual.padding == fd::Padding::minus_one ? Id{-1}
                       : expected.no_finite_logit               ? Id{0}
                                                  : static_cast<Id>(oracle::order(logits)[0]);
  for (int i = count; i < actual.capacity; ++i) {
    if (actual.experts[row + i] != padding || actual.weights[row + i] != 0.0F) {
      text << "token " << token << ", place " << i << ": padding " << actual.experts[row + i]
           << " with weight " << actual.weights[row + i] << ", expected " << padding;
      return text.str();
    }
  }
  const auto status =
      (expected.has_nan ? fd::TokenStatus::has_nan : fd::TokenStatus::ok) |
      (expected.no_finite_logit ? fd::TokenStatus::no_finite_logit : fd::TokenStatus::ok);
  if (actual.status[token] != status) {
    text << "token " << token << ": status " << static_cast<int>(actual.status[token])
         << ", expected " << static_cast<int>(status);
  }
  return text.str();
}

}  // namespace test

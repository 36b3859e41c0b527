#pragma once

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <string>

namespace olmoe {

/// Shows how far a long command is: on a terminal one line with a bar that is rewritten in place,
/// elsewhere a plain line per finished item. The estimate of the time left follows the weights of
/// the items, their relative cost.
class Progress {
 public:
  /// Reports on `stream`, which outlives this.
  Progress(std::size_t items, double total_weight, std::FILE* stream = stderr);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();

  /// The item that is being worked on, for the bar.
  void start(const std::string& item);

  /// That share of the item is done. Shown on a terminal only; does not enter the estimate.
  void advance(double share);

  /// The item is done; `note` says how it came out.
  void finish(const std::string& note, double weight = 1.0);

 private:
  std::string time_left() const;
  void draw(const std::string& doing);

  std::FILE* stream_;
  bool terminal_;
  std::size_t items_;
  std::size_t finished_ = 0;
  double total_weight_;
  double finished_weight_ = 0.0;
  std::string item_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

/// "42 s", "3 min 20 s" or "2 h 5 min".
std::string duration_text(double seconds);

}  // namespace olmoe

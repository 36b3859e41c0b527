#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <limits>
#include <optional>
#include <string>

namespace olmoe {

/// Where progress is shown, and when: tests replace what a program has.
struct ProgressStream {
  std::FILE* file = stderr;
  bool terminal;                  ///< rewrite one line; otherwise plain lines now and then
  std::function<int()> columns;   ///< asked before each drawing: a window can change
  std::function<double()> clock;  ///< seconds, from anywhere

  /// Standard error.
  static ProgressStream standard();
};

/// How long work will still take, in seconds: by the share done in the time passed. What is left is
/// known anew whenever the share grows, runs down in between, and never grows.
class TimeLeft {
 public:
  /// `share` of the work is done `seconds` after its beginning.
  void update(double share, double seconds);

  /// Nothing before the first update() of a share above 0.
  std::optional<double> at(double seconds) const;

 private:
  double share_ = 0.0;
  double end_ = std::numeric_limits<double>::infinity();  // of the work
};

/// What there is to do.
struct Work {
  std::string what;  ///< "perplexity", for plain lines
  std::string unit;  ///< of what is counted, "windows"; "B" for bytes, which are written as 3.2 GB
  double total = 0.0;   ///< how many
  double weight = 0.0;  ///< what all of them cost, in any measure; 0: one costs what another does
};

/// Shows how far a long command is, on standard error: done and total, rate, time left, and a value
/// that the work has so far. On a terminal this is one line that is rewritten in place, at most 5
/// times a second, never longer than the terminal is wide, and gone in the end. Elsewhere it is a
/// plain line every 5 seconds.
///
/// Calls must not be concurrent. Nothing else may write to the terminal meanwhile: end the progress
/// first, or use finish().
class Progress {
 public:
  using Value = std::function<std::string()>;

  explicit Progress(Work work, ProgressStream stream = ProgressStream::standard());
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();

  /// From now on the program shows no progress, and says nothing of finished items.
  static void silence();
  static bool silenced();

  /// The item that is being worked on.
  void start(const std::string& item);

  /// So many are done. `value`, "perplexity 21.3 +- 0.4", is called only if it is shown.
  void update(double done, const Value& value = {}) {
    update(done, done * work_.weight / work_.total, value);
  }

  /// So many are done, and so much of the weight.
  void update(double done, double weight, const Value& value);

  /// So much of the present item's weight is done.
  void advance(double weight);

  /// One item more is done, and its weight; `note` says how it came out. Where there is no terminal
  /// that is a line, whatever the time.
  void finish(const std::string& note, double weight = 1.0);

 private:
  std::string count_text() const;
  std::string rate_text(double seconds) const;
  std::string left_text(double seconds) const;
  void show(double weight, const Value& value);
  void draw(double weight, double seconds, const std::string& value);

  Work work_;
  ProgressStream stream_;
  double started_;
  double done_ = 0.0;
  double finished_weight_ = 0.0;
  TimeLeft time_left_;
  std::string item_;
  double next_;         // when to draw again
  bool drawn_ = false;  // whether a line stands on the terminal
};

/// Shows how many of `unit` are done, of one round of work after another: a function to be called
/// with 0 and their number when a round begins, and after each of them.
std::function<void(std::int64_t done, std::int64_t all)> counting_progress(std::string what,
                                                                           std::string unit);

/// "42 s", "3 min 20 s" or "2 h 5 min".
std::string duration_text(double seconds);

/// "13.84 GB", in powers of ten.
std::string bytes_text(double bytes);

}  // namespace olmoe

#include "terminal/progress.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "formats/error.hpp"
#include "terminal/terminal.hpp"

namespace olmoe {
namespace {

bool silent = false;

constexpr double redraw_seconds = 0.2;
constexpr double line_seconds = 5.0;

std::string number_text(const char* format, double value) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), format, value);
  return text.data();
}

}  // namespace

std::string duration_text(double seconds) {
  const auto whole = std::llround(std::max(seconds, 0.0));
  if (whole < 60) return std::to_string(whole) + " s";
  if (whole < 3600) return std::to_string(whole / 60) + " min " + std::to_string(whole % 60) + " s";
  return std::to_string(whole / 3600) + " h " + std::to_string(whole % 3600 / 60) + " min";
}

std::string bytes_text(double bytes) {
  constexpr std::array units{"B", "kB", "MB", "GB", "TB"};
  std::size_t unit = 0;
  while (bytes >= 1000.0 && unit + 1 < units.size()) {
    bytes /= 1000.0;
    ++unit;
  }
  return number_text(unit == 0 ? "%.0f " : "%.2f ", bytes) + units[unit];
}

void TimeLeft::update(double share, double seconds) {
  if (share <= share_) return;
  share_ = share;
  end_ = std::min(end_, seconds / std::min(share, 1.0));
}

std::optional<double> TimeLeft::at(double seconds) const {
  if (share_ <= 0.0) return std::nullopt;
  return std::max(end_ - seconds, 0.0);
}

ProgressStream ProgressStream::standard() {
  return {.file = stderr,
          .terminal = is_terminal(stderr),
          .columns = [] { return terminal_columns(stderr); },
          .clock =
              [] {
                const auto now = std::chrono::steady_clock::now().time_since_epoch();
                return std::chrono::duration<double>(now).count();
              }};
}

Progress::Progress(Work work, ProgressStream stream)
    : work_(std::move(work)), stream_(std::move(stream)), started_(stream_.clock()) {
  if (work_.weight <= 0.0) work_.weight = work_.total;
  next_ = started_ + (stream_.terminal ? 0.0 : line_seconds);
}

Progress::~Progress() {
  if (drawn_) std::fputs("\r\033[K", stream_.file);
  std::fflush(stream_.file);
}

void Progress::silence() {
  silent = true;
}

bool Progress::silenced() {
  return silent;
}

void Progress::start(const std::string& item) {
  item_ = one_line(item, message_limit);
  show(finished_weight_, {});
}

void Progress::update(double done, double weight, const Value& value) {
  done_ = done;
  finished_weight_ = weight;
  show(weight, value);
}

void Progress::advance(double weight) {
  show(finished_weight_ + weight, {});
}

void Progress::finish(const std::string& note, double weight) {
  done_ += 1.0;
  finished_weight_ += weight;
  if (stream_.terminal || silent) return show(finished_weight_, [&] { return note; });
  const double seconds = stream_.clock() - started_;
  time_left_.update(finished_weight_ / work_.weight, seconds);
  std::fprintf(stream_.file, "[%s] %s: %s; %s\n", count_text().c_str(), item_.c_str(), note.c_str(),
               left_text(seconds).c_str());
  std::fflush(stream_.file);
  next_ = stream_.clock() + line_seconds;
}

std::string Progress::count_text() const {
  if (work_.unit == "B") return bytes_text(done_) + "/" + bytes_text(work_.total);
  const auto whole = [](double n) { return std::to_string(std::llround(n)); };
  return whole(done_) + "/" + whole(work_.total);
}

std::string Progress::rate_text(double seconds) const {
  if (done_ <= 0.0 || seconds <= 0.0) return "";
  const double rate = done_ / seconds;
  if (work_.unit == "B") return bytes_text(rate) + "/s";
  if (rate >= 10.0) return number_text("%.0f/s", rate);
  if (rate >= 1.0) return number_text("%.1f/s", rate);
  return rate * 60.0 >= 1.0 ? number_text("%.1f/min", rate * 60.0)
                            : number_text("%.1f/h", rate * 3600.0);
}

std::string Progress::left_text(double seconds) const {
  if (done_ >= work_.total) return "done in " + duration_text(seconds);
  const auto left = time_left_.at(seconds);
  return left ? duration_text(*left) + " left" : "time left unknown";
}

void Progress::show(double weight, const Value& value) {
  const double now = stream_.clock();
  const double share = work_.weight > 0.0 ? std::clamp(weight / work_.weight, 0.0, 1.0) : 1.0;
  time_left_.update(share, now - started_);
  if (silent || now < next_) return;
  next_ = now + (stream_.terminal ? redraw_seconds : line_seconds);
  const std::string text = value ? one_line(value(), message_limit) : std::string();
  const double seconds = now - started_;
  if (stream_.terminal) return draw(share, seconds, text);
  std::string line = work_.what + ": " + count_text();
  if (work_.unit != "B") line += " " + work_.unit;
  for (const std::string& part : {item_, rate_text(seconds), left_text(seconds), text}) {
    if (!part.empty()) line += ", " + part;
  }
  std::fprintf(stream_.file, "%s\n", line.c_str());
  std::fflush(stream_.file);
}

/// What there is room for: the count always, then the time left, the value, the item, the rate; a
/// bar takes what remains, if that is enough to see.
void Progress::draw(double share, double seconds, const std::string& value) {
  // A terminal may wrap when its last column is written.
  const auto room = static_cast<std::size_t>(std::max(stream_.columns() - 1, 1));
  constexpr std::size_t widest_bar = 30;
  constexpr std::size_t narrowest_bar = 8;
  constexpr std::size_t brackets = 3;  // and a space

  std::string count = count_text();
  if (work_.unit != "B") count += " " + work_.unit;
  std::array<std::string, 4> parts{rate_text(seconds), left_text(seconds), value, item_};
  std::size_t length = characters(count);
  std::array<bool, 4> shown{};
  for (const std::size_t i : {1U, 2U, 3U, 0U}) {  // by importance
    const std::size_t more = characters(parts[i]) + 2;
    if (parts[i].empty() || length + more > room) continue;
    shown[i] = true;
    length += more;
  }
  std::string line = count;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (shown[i]) line += ", " + parts[i];
  }
  if (length + brackets + narrowest_bar <= room) {
    const std::size_t width = std::min(widest_bar, room - length - brackets);
    const auto full = static_cast<std::size_t>(share * static_cast<double>(width));
    const std::string bar = "[" + std::string(full, '#') + std::string(width - full, '.') + "] ";
    line.insert(0, bar);
  }
  std::fprintf(stream_.file, "\r\033[K%s", cut_to(line, room).c_str());
  std::fflush(stream_.file);
  drawn_ = true;
}

std::function<void(std::int64_t, std::int64_t)> counting_progress(std::string what,
                                                                  std::string unit) {
  const auto line = std::make_shared<std::optional<Progress>>();
  return
      [line, what = std::move(what), unit = std::move(unit)](std::int64_t done, std::int64_t all) {
        if (done == 0) {
          line->emplace(Work{.what = what, .unit = unit, .total = static_cast<double>(all)});
          (*line)->start("");
        } else if (line->has_value()) {
          (*line)->update(static_cast<double>(done));
          if (done == all) line->reset();
        }
      };
}

}  // namespace olmoe

#include "sweep/progress.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace olmoe {

std::string duration_text(double seconds) {
  const auto whole = std::llround(std::max(seconds, 0.0));
  if (whole < 60) return std::to_string(whole) + " s";
  if (whole < 3600) return std::to_string(whole / 60) + " min " + std::to_string(whole % 60) + " s";
  return std::to_string(whole / 3600) + " h " + std::to_string(whole % 3600 / 60) + " min";
}

Progress::Progress(std::size_t items, double total_weight, std::FILE* stream)
    : stream_(stream),
      terminal_(::isatty(::fileno(stream)) == 1),
      items_(items),
      total_weight_(total_weight) {}

Progress::~Progress() {
  if (terminal_) std::fputs("\r\033[K", stream_);
  std::fflush(stream_);
}

void Progress::start(const std::string& item) {
  item_ = item;
  if (terminal_) draw(item);
}

void Progress::advance(double share) {
  if (!terminal_) return;
  const auto percent = static_cast<int>(100.0 * share);
  draw(item_ + " " + std::to_string(percent) + " %");
}

void Progress::finish(const std::string& note, double weight) {
  ++finished_;
  finished_weight_ += weight;
  if (terminal_) {
    draw(item_);
  } else {
    std::fprintf(stream_, "[%zu/%zu] %s: %s; %s\n", finished_, items_, item_.c_str(), note.c_str(),
                 time_left().c_str());
  }
  std::fflush(stream_);
}

std::string Progress::time_left() const {
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - started_;
  if (finished_ == items_) return "done in " + duration_text(elapsed.count());
  if (finished_weight_ <= 0.0) return "time left unknown";
  const double left = elapsed.count() * (total_weight_ - finished_weight_) / finished_weight_;
  return duration_text(left) + " left";
}

void Progress::draw(const std::string& doing) {
  constexpr std::size_t width = 30;
  const double share = total_weight_ > 0.0 ? std::min(finished_weight_ / total_weight_, 1.0) : 1.0;
  const auto full = static_cast<std::size_t>(share * static_cast<double>(width));
  const std::string bar = std::string(full, '#') + std::string(width - full, '.');
  std::fprintf(stream_, "\r\033[K[%s] %zu/%zu, %s, %s", bar.c_str(), finished_, items_,
               time_left().c_str(), doing.c_str());
  std::fflush(stream_);
}

}  // namespace olmoe

#pragma once

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "fdroute/version.hpp"

// What a table of times says of itself: where and when it was measured, how far its repeats differ.

namespace bench {

/// The q-quantile of some numbers, at least one.
inline double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
}

/// The middle half of some times, relative to their median.
inline double spread(const std::vector<double>& times) {
  return (quantile(times, 0.75) - quantile(times, 0.25)) / quantile(times, 0.5);
}

/// The machine, the compiler and the moment.
struct Circumstances {
  std::string processor = "unknown";
  unsigned processors = std::thread::hardware_concurrency();
  std::string compiler = __VERSION__;
  std::string version = std::to_string(FDROUTE_VERSION_MAJOR) + "." +
                        std::to_string(FDROUTE_VERSION_MINOR) + "." +
                        std::to_string(FDROUTE_VERSION_PATCH);
  std::string date;
  int others = others_now();  // threads that ran beside this one when it started

  Circumstances() {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);) {
      if (!line.starts_with("model name")) continue;
      processor = line.substr(std::min(line.size(), line.find(": ") + 2));
      break;
    }
    const std::time_t now = std::time(nullptr);
    std::array<char, 32> text{};
    std::strftime(text.data(), text.size(), "%Y-%m-%d", std::gmtime(&now));
    date = text.data();
  }

  /// The threads of all programs that run or could, but this one; 0 if nothing tells.
  static int others_now() {
    std::ifstream file("/proc/loadavg");  // 0.20 0.18 0.12 RUNNING/ALL LAST
    std::string word;
    for (int i = 0; i < 4; ++i) file >> word;
    return std::max(0, std::atoi(word.c_str()) - 1);
  }

  std::string line() const {
    return processor + ", " + std::to_string(processors) + " processors, " +
           std::to_string(others) + " other threads at the start; compiler " + compiler +
           ", fdroute " + version + ", " + date;
  }

  /// Why times that were taken so are not to be quoted, or "". `spread` is that of the first case.
  std::string noise(double spread) const {
    const int most = std::max(others, others_now());
    if (most > 0 && 2 * static_cast<unsigned>(most) >= processors)
      return "noisy: do not quote (other programs run)";
    if (spread > 0.1) return "noisy: do not quote (the repeats differ)";
    return "";
  }
};

/// A string of JSON.
inline std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return result + '"';
}

}  // namespace bench

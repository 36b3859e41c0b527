#include "sweep/provenance.hpp"

#include <array>
#include <charconv>
#include <cstdlib>
#include <ctime>
#include <fdroute/detail/number/to_text.hpp>
#include <fdroute/version.hpp>
#include <string_view>

#include "formats/error.hpp"

#ifndef FDROUTE_REVISION
#define FDROUTE_REVISION ""
#endif

namespace olmoe {

using Json = nlohmann::ordered_json;

namespace {

std::time_t time_of_writing() {
  const char* const given = std::getenv("SOURCE_DATE_EPOCH");
  if (given == nullptr) return std::time(nullptr);
  const std::string_view text = given;
  std::int64_t seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  constexpr std::int64_t end_of_9999 = 253'402'300'799;
  if (error != std::errc() || end != text.data() + text.size() || seconds < 0 ||
      seconds > end_of_9999)
    throw Error("SOURCE_DATE_EPOCH: seconds since 1970 are expected, got '" + std::string(text) +
                "'");
  return static_cast<std::time_t>(seconds);
}

std::string day_of(std::time_t time) {
  std::tm day{};
  ::gmtime_r(&time, &day);
  std::array<char, 32> text;
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%d", &day)};
}

}  // namespace

std::string fdroute_version() {
  return std::to_string(FDROUTE_VERSION_MAJOR) + "." + std::to_string(FDROUTE_VERSION_MINOR) + "." +
         std::to_string(FDROUTE_VERSION_PATCH);
}

Json provenance() {
  const std::string revision = FDROUTE_REVISION;
  return {{"fdroute", fdroute_version()},
          {"revision", revision.empty() ? Json(nullptr) : Json(revision)},
          {"date", day_of(time_of_writing())}};
}

std::string provenance_text(const Json& provenance) {
  const Json& revision = provenance.at("revision");
  return "fdroute " + provenance.at("fdroute").get<std::string>() +
         (revision.is_null() ? "" : " (revision " + revision.get<std::string>() + ")") + ", " +
         provenance.at("date").get<std::string>();
}

std::string command_text(const std::string& grid, const Json& inputs) {
  std::string text = "olmoe sweep --model DIR --grid " + grid;
  const auto add = [&](const char* option, const std::string& value) {
    text += std::string(" ") + option + " " + value;
  };
  add("--window", std::to_string(inputs.at("window").get<std::int64_t>()));
  add("--stride", std::to_string(inputs.at("stride").get<std::int64_t>()));
  add("--new-tokens", std::to_string(inputs.at("new_tokens").get<std::int64_t>()));
  add("--margin", fdroute::detail::to_text(inputs.at("margin").get<double>()));
  add("--shuffles", std::to_string(inputs.at("shuffles").get<std::int64_t>()));
  add("--compute", inputs.at("compute").get<std::string>());
  return text;
}

}  // namespace olmoe

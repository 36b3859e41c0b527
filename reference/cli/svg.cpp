#include "cli/svg.hpp"

#include <array>
#include <cstdio>

namespace olmoe {
namespace {

/// Two decimals are finer than a pixel.
std::string coordinate(double value) {
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), "%.2f", value);
  return text.data();
}

std::string attribute(std::string_view name, double value) {
  return std::string(" ").append(name).append("=\"").append(coordinate(value)).append("\"");
}

}  // namespace

std::string escape_markup(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

Svg::Svg(double width, double height) {
  body_ = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + coordinate(width) + " " +
          coordinate(height) + "\"" + attribute("width", width) + attribute("height", height) +
          " font-family=\"sans-serif\">\n";
  rect(0, 0, width, height, "#ffffff");
}

void Svg::rect(double x, double y, double width, double height, std::string_view fill) {
  body_ += "<rect" + attribute("x", x) + attribute("y", y) + attribute("width", width) +
           attribute("height", height) + " fill=\"" + std::string(fill) + "\"/>\n";
}

void Svg::line(Point from, Point to, std::string_view stroke, std::string_view more) {
  body_ += "<line" + attribute("x1", from.first) + attribute("y1", from.second) +
           attribute("x2", to.first) + attribute("y2", to.second) + " stroke=\"" +
           std::string(stroke) + "\" " + std::string(more) + "/>\n";
}

void Svg::polyline(std::span<const Point> points, std::string_view stroke) {
  body_ += "<polyline fill=\"none\" stroke=\"" + std::string(stroke) +
           "\" stroke-width=\"1.5\" points=\"";
  for (const auto& [x, y] : points) body_ += coordinate(x) + "," + coordinate(y) + " ";
  body_ += "\"/>\n";
}

void Svg::dot(Point at, double radius, std::string_view fill, std::string_view title) {
  body_ += "<circle" + attribute("cx", at.first) + attribute("cy", at.second) +
           attribute("r", radius) + " fill=\"" + std::string(fill) + "\"";
  body_ += title.empty() ? "/>\n" : "><title>" + escape_markup(title) + "</title></circle>\n";
}

void Svg::text(Point at, std::string_view text, std::string_view anchor, int size) {
  body_ += "<text" + attribute("x", at.first) + attribute("y", at.second) + " text-anchor=\"" +
           std::string(anchor) + "\" font-size=\"" + std::to_string(size) +
           "\" fill=\"#222222\" xml:space=\"preserve\">" + escape_markup(text) + "</text>\n";
}

}  // namespace olmoe

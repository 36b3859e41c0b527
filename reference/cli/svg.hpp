#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace olmoe {

/// A picture in SVG, written piece by piece: lengths in pixels, y downwards.
class Svg {
 public:
  using Point = std::pair<double, double>;

  Svg(double width, double height);

  void rect(double x, double y, double width, double height, std::string_view fill);
  void line(Point from, Point to, std::string_view stroke, std::string_view more = "");
  void polyline(std::span<const Point> points, std::string_view stroke);
  void dot(Point at, double radius, std::string_view fill, std::string_view title = "");
  /// `anchor`: start, middle or end.
  void text(Point at, std::string_view text, std::string_view anchor = "start", int size = 11);

  /// The whole document.
  std::string document() const { return body_ + "</svg>\n"; }

 private:
  std::string body_;
};

/// `text` with what has a meaning in XML and HTML replaced: & < > " '.
std::string escape_markup(std::string_view text);

}  // namespace olmoe

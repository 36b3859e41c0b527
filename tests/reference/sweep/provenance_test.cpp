#include "sweep/provenance.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

#include "reference/error_of.hpp"

namespace {

/// SOURCE_DATE_EPOCH, as long as it lives.
class Epoch {
 public:
  explicit Epoch(const char* value) { ::setenv("SOURCE_DATE_EPOCH", value, 1); }
  ~Epoch() { ::unsetenv("SOURCE_DATE_EPOCH"); }
  Epoch(const Epoch&) = delete;
  Epoch& operator=(const Epoch&) = delete;
};

}  // namespace

TEST_CASE("A provenance has version, revision and day") {
  const Epoch epoch("951782400");  // 2000-02-29, 0:00
  const auto written = olmoe::provenance();
  CHECK(written.at("date") == "2000-02-29");
  CHECK(written.at("fdroute") == olmoe::fdroute_version());
  CHECK((written.at("revision").is_null() || !written.at("revision").get<std::string>().empty()));
  CHECK(olmoe::provenance_text(
            {{"fdroute", "1.2.3"}, {"revision", nullptr}, {"date", "2000-02-29"}}) ==
        "fdroute 1.2.3, 2000-02-29");
  CHECK(olmoe::provenance_text(
            {{"fdroute", "1.2.3"}, {"revision", "0123456789ab"}, {"date", "2000-02-29"}}) ==
        "fdroute 1.2.3 (revision 0123456789ab), 2000-02-29");
}

TEST_CASE("SOURCE_DATE_EPOCH is a number of seconds") {
  for (const char* wrong : {"", "-1", "1e9", "12 ", "99999999999999"}) {
    const Epoch epoch(wrong);
    CHECK(error_of([] { olmoe::provenance(); }).starts_with("SOURCE_DATE_EPOCH: "));
  }
}

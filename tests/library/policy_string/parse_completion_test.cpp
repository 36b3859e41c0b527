#include <doctest/doctest.h>

#include <string>

#include "fdroute/parse_completion.hpp"
#include "library/support.hpp"

namespace fd = fdroute;

namespace {

std::string refusal(const std::string& text) {
  return test::rejection_of([&] { fd::parse_completion(text); });
}

}  // namespace

TEST_CASE("a completion from a string, and back") {
  const fd::Completion both = fd::parse_completion("completion:max_k=5,window=12");
  CHECK(both.window == 12);
  CHECK(both.max_k == 5);
  CHECK(fd::describe(both) == "completion:window=12,max_k=5");
  CHECK(fd::describe(fd::parse_completion(fd::describe(both))) == fd::describe(both));
  CHECK(fd::describe(fd::parse_completion("completion:window=3")) == "completion:window=3,max_k=8");
  CHECK(fd::describe(fd::parse_completion("completion")) == fd::describe(fd::Completion{}));
}

TEST_CASE("what is wrong with a completion's string is said, with its place") {
  CHECK(refusal("complete:window=3") ==
        "policy 'complete:window=3', position 1: 'completion' expected, got 'complete'");
  CHECK(refusal("preset:completion,window=3") ==
        "policy 'preset:completion,window=3', position 8: 'completion' expected, got "
        "'completion'");
  CHECK(refusal("completion:windw=3") ==
        "policy 'completion:windw=3', position 12: unknown key 'windw' (did you mean "
        "'window'?); completion accepts window, max_k");
  CHECK(refusal("completion:window=0") ==
        "policy 'completion:window=0', position 19: window must be at least 1, got 0");
  CHECK(refusal("completion:window=2,max_k=-1") ==
        "policy 'completion:window=2,max_k=-1', position 27: max_k must be at least 1, got -1");
  CHECK(refusal("completion:window=x") ==
        "policy 'completion:window=x', position 19: window takes an integer, got 'x'");
}

#include "measure/texts.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "reference/error_of.hpp"
#include "reference/temp_dir.hpp"
#include "tokenizer/tokenizer.hpp"

namespace {

const std::filesystem::path model = FDROUTE_SOURCE_DIR "/reference/model";

olmoe::Text made_of(const std::vector<std::int64_t>& sizes) {
  olmoe::Text text{"made", {}, ""};
  for (const std::int64_t size : sizes) {
    text.documents.push_back({"d" + std::to_string(text.documents.size()), size});
    for (std::int64_t i = 0; i < size; ++i)
      text.ids.push_back(static_cast<std::int32_t>(text.ids.size()));
  }
  return text;
}

std::vector<std::int64_t> sizes(const olmoe::Text& text) {
  std::vector<std::int64_t> sizes;
  for (const olmoe::Document& document : text.documents) sizes.push_back(document.tokens);
  return sizes;
}

}  // namespace

TEST_CASE("The bundled texts hold at least 30 documents, and development shares none") {
  const auto tokenizer = olmoe::Tokenizer::load(model / "tokenizer.json");
  const auto held_out =
      olmoe::load_texts(std::vector<std::string>{(model / "text").string()}, tokenizer);
  const auto development =
      olmoe::load_texts(std::vector<std::string>{(model / "development").string()}, tokenizer);
  std::size_t documents = 0;
  REQUIRE(held_out.size() == development.size());
  for (std::size_t t = 0; t < held_out.size(); ++t) {
    documents += held_out[t].documents.size();
    std::int64_t tokens = 0;
    for (const olmoe::Document& document : held_out[t].documents) {
      tokens += document.tokens;
      for (const olmoe::Document& other : development[t].documents)
        CHECK(document.name != other.name);
    }
    CHECK(tokens == static_cast<std::int64_t>(held_out[t].ids.size()));
  }
  CHECK(documents == 59);
}

TEST_CASE("Documents are encoded each on its own, and must be all of the text") {
  const TempDir dir;
  const auto tokenizer = olmoe::Tokenizer::load(model / "tokenizer.json");
  const auto path = dir.write("a.txt", "In the beginning\nthe word");
  const std::vector<std::string> paths{path.string()};
  const auto load = [&](const std::string& documents) {
    dir.write("a.documents", documents);
    return olmoe::load_texts(paths, tokenizer).front();
  };
  const auto text = load("16 first one\n9 second\n");
  auto ids = tokenizer.encode("In the beginning");
  REQUIRE(text.documents.size() == 2);
  CHECK(text.documents[0].name == "first one");
  CHECK(text.documents[0].tokens == static_cast<std::int64_t>(ids.size()));
  const auto second = tokenizer.encode("\nthe word");
  ids.insert(ids.end(), second.begin(), second.end());
  CHECK(text.ids == ids);

  const auto error = [&](const char* documents) { return error_of([&] { load(documents); }); };
  const std::string file = (dir.path() / "a.documents").string();
  CHECK(error("16 first\n") == file + ": has documents of 16 bytes, the text has 25");
  CHECK(error("16 first\n10 second\n") ==
        file + ": has documents of more than the text's 25 bytes");
  CHECK(error("16 first\nsecond\n") == file + ": line 2 is not \"BYTES NAME\": 'second'");
  CHECK(error("0 first\n") == file + ": line 1 is not \"BYTES NAME\": '0 first'");
}

TEST_CASE("The first tokens and the first quarter of a text keep whole documents together") {
  CHECK(sizes(olmoe::first_tokens(made_of({5, 5, 5}), 20)) == std::vector<std::int64_t>{5, 5, 5});
  CHECK(sizes(olmoe::first_tokens(made_of({5, 5, 5}), 8)) == std::vector<std::int64_t>{5, 3});
  const auto cut = olmoe::first_tokens(made_of({5, 5, 5}), 6);
  CHECK(sizes(cut) == std::vector<std::int64_t>{5});  // a document of one token predicts nothing
  CHECK(cut.ids.size() == 5);

  auto text = made_of({3, 4, 5, 8});
  const auto quarter = olmoe::split_off_quarter(text);
  CHECK(sizes(quarter) == std::vector<std::int64_t>{3, 4});
  CHECK(sizes(text) == std::vector<std::int64_t>{5, 8});
  CHECK(text.ids.front() == 7);
  CHECK(quarter.ids.back() == 6);

  olmoe::Text plain{"plain", {1, 2, 3, 4, 5, 6, 7, 8}, ""};
  CHECK(olmoe::split_off_quarter(plain).ids == std::vector<std::int32_t>{1, 2});
  CHECK(plain.ids.front() == 3);
}

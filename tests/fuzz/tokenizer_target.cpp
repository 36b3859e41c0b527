// tokenizer/: any tokenizer.json and a text. Ids that come out are known; what a StreamDecoder
// makes of them piece by piece is what decode() makes of all, and it is UTF-8.

#include "tokenizer/tokenizer.hpp"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/fuzz.hpp"
#include "fuzz/strict_json.hpp"
#include "tokenizer/unicode.hpp"

FUZZ_TARGET(tokenizer) {
  fuzz::Source source(input);
  const std::string_view text = source.until('\0');
  const auto path = fuzz::file_of("tokenizer.json", source.rest());
  fuzz::accepted([&] {
    const olmoe::Tokenizer tokenizer = olmoe::Tokenizer::load(path);
    const std::vector<std::int32_t> ids = tokenizer.encode(text);
    std::string streamed;
    olmoe::StreamDecoder decoder(tokenizer);
    for (const std::int32_t id : ids) {
      fuzz::require(id >= 0 && static_cast<std::size_t>(id) < tokenizer.vocab_size() &&
                        tokenizer.contains(id),
                    "an id is known");
      streamed += decoder.push(id);
    }
    streamed += decoder.finish();
    const std::string whole = tokenizer.decode(ids);
    fuzz::require(streamed == whole, "pieces together are the whole");
    olmoe::require_utf8(whole, "decoded text");
  });
}

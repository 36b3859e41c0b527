// What users hand to the program beside a model: prompts, ids, grids, texts.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/batch.hpp"
#include "formats/safetensors.hpp"
#include "fuzz/fuzz.hpp"
#include "measure/texts.hpp"
#include "measure/windows.hpp"
#include "reference/sound_sweep.hpp"
#include "routing/routing.hpp"
#include "sweep/prompts.hpp"
#include "sweep/sweep_files.hpp"
#include "tokenizer/tokenizer.hpp"

namespace inputs_target {

std::string canonical(const std::string& policy) {
  static const olmoe::Config config = small_config();
  return olmoe::policy_of(
      olmoe::make_routers(config, policy, std::span<const fdroute::TabulatedNull>()));
}

void check_grid(const std::filesystem::path& path) {
  const auto grid = olmoe::file_grid(path, small_config(), canonical);
  fuzz::require(!grid.empty(), "a grid has the baseline");
  for (const olmoe::Configuration& c : grid)
    fuzz::require(olmoe::is_name(c.name), "a configuration's name is fit for a file's");
}

void check_ids(const std::filesystem::path& path) {
  const olmoe::TokenBatch batch = olmoe::read_token_batch(path);
  fuzz::require(batch.ids.size() == static_cast<std::size_t>(batch.sequences * batch.length),
                "a batch has all its ids");
  for (const std::int32_t id : batch.ids) fuzz::require(id >= 0, "an id is not negative");
}

void check_texts(std::string_view extents, std::string_view text) {
  static const olmoe::Tokenizer tokenizer =
      olmoe::Tokenizer::load(FDROUTE_SOURCE_DIR "/reference/model/tokenizer.json");
  fuzz::file_of("text.documents", extents);
  const std::string path = fuzz::file_of("text.txt", text).string();
  const std::vector<std::string> paths{path};
  auto texts = olmoe::load_texts(paths, tokenizer);
  olmoe::Text& whole = texts.at(0);
  std::int64_t tokens = 0;
  for (const olmoe::Document& document : whole.all_documents()) tokens += document.tokens;
  fuzz::require(tokens == static_cast<std::int64_t>(whole.ids.size()),
                "documents are all of a text");
  const olmoe::Text first = olmoe::first_tokens(whole, 7);
  fuzz::require(first.ids.size() <= 7 || whole.ids.size() <= 7, "first_tokens() cuts");
  const std::size_t before = whole.ids.size();
  const olmoe::Text quarter = olmoe::split_off_quarter(whole);
  fuzz::require(quarter.ids.size() + whole.ids.size() == before, "a quarter and the rest are all");
}

}  // namespace inputs_target

FUZZ_TARGET(inputs) {
  namespace target = inputs_target;
  fuzz::Source source(input);
  switch (source.byte() % 5) {
    case 0: {
      const auto path = fuzz::file_of("prompts.json", source.rest());
      fuzz::accepted(
          [&] {
            const auto prompts = olmoe::parse_prompts(source.rest(), "prompts.json");
            fuzz::require(!prompts.empty(), "there is a prompt");
            for (const olmoe::Prompt& prompt : prompts)
              fuzz::require(!prompt.text.empty(), "a prompt is not empty");
          },
          "prompts.json");
      fuzz::accepted(
          [&] {
            for (const olmoe::Prompt& prompt : olmoe::read_prompts(path))
              fuzz::require(!prompt.group.empty(), "a sweep's prompt has a class");
          },
          "prompts.json");
      break;
    }
    case 1: {
      const auto path = fuzz::file_of("ids.json", source.rest());
      fuzz::accepted([&] { target::check_ids(path); }, "ids.json");
      break;
    }
    case 2: {
      const auto path = fuzz::file_of("ids.safetensors", source.rest());
      fuzz::accepted([&] { target::check_ids(path); }, "ids.safetensors");
      break;
    }
    case 3: {
      const auto path = fuzz::file_of("grid.txt", source.rest());
      fuzz::accepted([&] { target::check_grid(path); }, "grid.txt");
      break;
    }
    default: {
      const std::string_view extents = source.until('\0');
      fuzz::accepted([&] { target::check_texts(extents, source.rest()); }, "text.");
    }
  }
}

// sweep/: the files of a sweep, some of whose values were replaced, with fingerprints to match.
// They are read and reported on, or refused by an error that names a file.

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "formats/json.hpp"
#include "fuzz/fuzz.hpp"
#include "reference/gnuplot_script.hpp"
#include "reference/json_places.hpp"
#include "reference/sound_sweep.hpp"
#include "sweep/plots.hpp"
#include "tokenizer/unicode.hpp"

namespace sweep_target {

using Json = nlohmann::ordered_json;
using Pointer = Json::json_pointer;

/// A sound sweep, and a copy of it to be changed.
class State {
 public:
  State() {
    for (const std::filesystem::path& file : sweep_.files()) {
      const Json json = olmoe::read_sweep_file(file);
      std::vector<Pointer> places;
      for (const std::string& place : places_of(json)) places.emplace_back(place);
      files_.push_back({file, json, std::move(places)});
    }
  }

  /// Files are changed by edits "FILE PLACE VALUE<NUL>", or one of them is replaced as a whole.
  void run(std::string_view input) {
    fuzz::Source source(input);
    const int kind = source.byte();
    std::vector<Json> documents;
    for (const File& file : files_) documents.push_back(file.json);
    std::string raw;
    const std::size_t of_raw = static_cast<std::size_t>(kind) % files_.size();
    if (kind >= 128) {
      raw = source.rest();
    } else {
      while (!source.empty()) edit(source, documents);
      seal(documents);
    }
    for (std::size_t f = 0; f < files_.size(); ++f) {
      const bool whole = kind >= 128 && f == of_raw;
      fuzz::overwrite(files_[f].path, whole ? raw : olmoe::json_text(documents[f]));
    }
    fuzz::accepted([&] { report(); }, sweep_.directory().path().string().substr(0, 8));
  }

 private:
  struct File {
    std::filesystem::path path;
    Json json;
    std::vector<Pointer> places;
  };

  void edit(fuzz::Source& source, std::vector<Json>& documents) const {
    const auto f = static_cast<std::size_t>(source.below(static_cast<int>(files_.size())));
    const auto p =
        static_cast<std::size_t>(source.below(static_cast<int>(files_[f].places.size())));
    const std::string text(source.until('\0'));
    try {
      olmoe::check_json_shape(text, {}, "value");
      Json value = Json::parse(text, nullptr, false);
      // What a file holds is UTF-8.
      if (value.is_discarded()) value = olmoe::replace_invalid_utf8(text);
      documents[f].at(files_[f].places[p]) = value;
    } catch (const std::exception&) {
      // Too deep, or an earlier edit has removed the place.
    }
  }

  /// Gives every result the fingerprint that it needs.
  void seal(std::vector<Json>& documents) const {
    try {
      const olmoe::SweepPlan plan = olmoe::SweepPlan::from_json(documents[0], "plan");
      for (const olmoe::Configuration& c : plan.configurations) {
        for (std::size_t f = 1; f < files_.size(); ++f) {
          if (files_[f].path == sweep_.directory().config_file(c.name) &&
              documents[f].is_object() && documents[f].contains("fingerprint"))
            documents[f]["fingerprint"] = plan.fingerprint(c);
        }
        // One that no edit reaches.
        if (c.name == "topk_2") {
          Json result = olmoe::read_sweep_file(sweep_.directory().config_file(c.name));
          result["fingerprint"] = plan.fingerprint(c);
          fuzz::overwrite(sweep_.directory().config_file(c.name), olmoe::json_text(result));
        }
      }
    } catch (const olmoe::Error&) {
      // No plan: that is to be found again.
    }
  }

  void report() const {
    const olmoe::SweepDirectory& directory = sweep_.directory();
    const olmoe::SweepResults results = olmoe::read_results(directory);
    olmoe::full_results(results).dump(1, ' ', false, Json::error_handler_t::replace);
    olmoe::summary_csv(results);
    olmoe::timings_csv(results, directory);
    olmoe::report(results, olmoe::Pictures::none);
    const std::string fault =
        fault_of_script(olmoe::gnuplot_script(olmoe::plot_data(results), results.plan.stem));
    fuzz::require(fault.empty(), fault);
  }

  SmallSweep sweep_;
  std::vector<File> files_;
};

}  // namespace sweep_target

FUZZ_TARGET(sweep) {
  static sweep_target::State state;
  state.run(input);
}

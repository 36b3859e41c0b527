#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "cli/commands.hpp"
#include "cli/common_options.hpp"
#include "cli/input.hpp"
#include "cli/trace.hpp"
#include "formats/atomic_file.hpp"
#include "formats/error.hpp"
#include "forward/model.hpp"
#include "routing/nulls.hpp"
#include "routing/routing.hpp"
#include "tokenizer/tokenizer.hpp"

namespace olmoe {
namespace {

struct TraceOptions {
  std::string model;
  Compute compute = Compute::f32;
  Storage kv = Storage::f32;
  // Exactly one of these is given.
  std::optional<std::string> text;
  std::string file;
  std::vector<std::string> policies;
  std::string nulls;
  std::int64_t max_tokens = 200;
  std::filesystem::path html;
  std::filesystem::path svg;
  std::int64_t layer = 0;
  std::int64_t token = -1;  ///< -1: the last
};

InputText text_of(const TraceOptions& options) {
  if (options.text) return {*options.text, "--text"};
  Input input(options.file);
  return {input.read_all(), input.name()};
}

TracedPolicy trace_policy(const TraceOptions& options, const Model& model,
                          const std::string& policy, const std::vector<std::int32_t>& ids) {
  const RouteOptions route{.policy = policy, .nulls = options.nulls};
  const auto routers = route.routers(options.model, model);
  const std::filesystem::path file = route.nulls_file(options.model);
  const auto nulls = file.empty() ? std::vector<fdroute::TabulatedNull>()
                                  : load_nulls(file, model.config().num_hidden_layers);
  return trace(model, routers, nulls, ids);
}

/// "token 11 ' beginning', layer 0: bh:alpha=0.05,..."
std::string picture_title(const TraceOptions& options, const std::string& policy,
                          const TracedToken& token, std::int64_t place) {
  return "token " + std::to_string(place) + ", " + quote(token.bytes) + ", layer " +
         std::to_string(options.layer) + " of the model, under " +
         policy.substr(0, policy.find(",null="));
}

void write_picture(const TraceOptions& options, const Model& model, const TracedPolicy& policy,
                   const std::vector<TracedToken>& tokens) {
  const auto n = static_cast<std::int64_t>(tokens.size());
  const std::int64_t token = options.token < 0 ? n - 1 : options.token;
  if (token >= n)
    throw std::invalid_argument("--token: the text has tokens 0 to " + std::to_string(n - 1));
  if (options.layer >= model.config().num_hidden_layers)
    throw std::invalid_argument("--layer: the model has layers 0 to " +
                                std::to_string(model.config().num_hidden_layers - 1));
  write_atomically(options.svg,
                   step_up_picture(policy.layers[static_cast<std::size_t>(options.layer)], token,
                                   picture_title(options, policy.policy,
                                                 tokens[static_cast<std::size_t>(token)], token)));
}

void run(const TraceOptions& options) {
  if (options.html.empty() && options.svg.empty())
    throw std::invalid_argument("trace writes nothing: give --html FILE or --svg FILE");
  const Model model(options.model, options.compute, options.kv);
  const auto tokenizer = Tokenizer::load(std::filesystem::path(options.model) / "tokenizer.json");
  const InputText text = text_of(options);
  std::vector<std::int32_t> ids = tokenizer.encode(text.text, text.origin);
  if (ids.empty()) throw Error(text.origin + ": no tokens");
  const auto all = static_cast<std::int64_t>(ids.size());
  const std::int64_t most =
      std::min<std::int64_t>(options.max_tokens, model.config().max_position_embeddings);
  if (all > most) {
    std::fprintf(stderr, "olmoe: the first %lld of %lld tokens are shown\n",
                 static_cast<long long>(most), static_cast<long long>(all));
    ids.resize(static_cast<std::size_t>(most));
  }
  std::vector<TracedToken> tokens;
  for (const std::int32_t id : ids) tokens.push_back({id, std::string(tokenizer.token_bytes(id))});
  std::vector<TracedPolicy> policies;
  for (const std::string& policy : options.policies)
    policies.push_back(trace_policy(options, model, policy, ids));
  model.checkpoint().check_unchanged();
  if (!options.html.empty())
    write_atomically(options.html, trace_page(tokens, policies, options.model));
  if (!options.svg.empty()) write_picture(options, model, policies.front(), tokens);
}

}  // namespace

void add_trace(CommandLine& line) {
  const Command command = line.subcommand(
      "trace", "Show how single tokens are routed: a page to point at, or a picture");
  const auto options = std::make_shared<TraceOptions>();
  add_model_option(command, options->model);
  const Command input = command.exactly_one_of("Input");
  input.option("-p,--text", options->text, "Text to route").shown_as("TEXT");
  input.option("-f,--file", options->file, "A file whose whole content is the text; - is stdin")
      .shown_as("FILE");
  const Command routing = command.under("Routing");
  options->policies = {"bh:alpha=0.05,min_k=1,max_k=16"};
  routing
      .option("--route", options->policies,
              "Routing policy; given twice, the page shows both side by side")
      .shows_default("bh:alpha=0.05,min_k=1,max_k=16")
      .one_at_a_time()
      .shown_as("POLICY");
  routing
      .option("--nulls", options->nulls,
              "Null distributions, one per layer; default: nulls.safetensors in the model "
              "directory, if there is one")
      .shown_as("FILE");
  command.option("-n,--max-tokens", options->max_tokens, "Tokens of the text, its first ones")
      .shows_default()
      .whole_number(std::int64_t{1})
      .shown_as("N");
  command.option("-o,--html", options->html, "HTML page to write, complete in itself")
      .shown_as("FILE");
  const Command picture = command.under("Picture");
  picture
      .option("--svg", options->svg,
              "SVG to write: one token's sorted p-values under the rule's critical values")
      .shown_as("FILE");
  picture.option("--layer", options->layer, "Layer of the picture, from 0")
      .shows_default()
      .whole_number(std::int64_t{0})
      .shown_as("L");
  picture.option("--token", options->token, "Token of the picture, from 0; default: the last")
      .whole_number(std::int64_t{0})
      .shown_as("I");
  add_compute_options(command, options->compute);
  add_kv_option(command, options->kv);
  command.example("olmoe trace -m reference/model -p 'In the beginning God created' -o trace.html");
  command.runs([options] { run(*options); });
}

}  // namespace olmoe

#include <CLI/CLI.hpp>
#include <exception>
#include <fdroute/version.hpp>
#include <iostream>
#include <new>
#include <stdexcept>
#include <string>

#include "commands.hpp"

#define OLMOE_TEXT_OF(x) #x
#define OLMOE_TEXT(x) OLMOE_TEXT_OF(x)

int main(int argc, char** argv) {
  constexpr int failure = 1;
  constexpr int usage = 2;

  CLI::App app("olmoe: OLMoE on the CPU, routed by fdroute");
  app.set_version_flag("--version",
                       OLMOE_TEXT(FDROUTE_VERSION_MAJOR) "." OLMOE_TEXT(
                           FDROUTE_VERSION_MINOR) "." OLMOE_TEXT(FDROUTE_VERSION_PATCH));
  app.require_subcommand(1);
  olmoe::add_generate(app);
  olmoe::add_tokenize(app);
  olmoe::add_logits(app);
  olmoe::add_verify(app);
  olmoe::add_inspect(app);
  olmoe::add_perplexity(app);
  olmoe::add_calibrate(app);
  olmoe::add_sweep(app);
  olmoe::add_merge(app);
  try {
    app.parse(argc, argv);
    std::cout.flush();
    if (!std::cout) throw std::runtime_error("cannot write to standard output");
    return 0;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : usage;
  } catch (const std::invalid_argument& error) {
    std::cerr << "olmoe: " << error.what() << '\n';
    return usage;
  } catch (const std::bad_alloc&) {
    std::cerr << "olmoe: out of memory\n";
    return failure;
  } catch (const std::exception& error) {
    std::cerr << "olmoe: " << error.what() << '\n';
    return failure;
  }
}

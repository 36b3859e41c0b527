#include "cli/commands.hpp"
#include "cli/common_options.hpp"
#include "formats/mapped_file.hpp"
#include "formats/temporary_file.hpp"
#include "kernels/wait_policy.hpp"

int main(int argc, char** argv) {
  olmoe::sleep_while_waiting(argv);
  olmoe::report_truncated_files();
  olmoe::tidy_when_ended();
  olmoe::limit_threads();

  olmoe::CommandLine line("OLMoE on the CPU, routed by fdroute");
  line.heading("Text");
  olmoe::add_generate(line);
  olmoe::add_tokenize(line);
  olmoe::add_logits(line);
  olmoe::add_trace(line);
  line.heading("Policies");
  olmoe::add_policies(line);
  olmoe::add_perplexity(line);
  olmoe::add_calibrate(line);
  olmoe::add_ablate(line);
  olmoe::add_sweep(line);
  olmoe::add_merge(line);
  line.heading("Models");
  olmoe::add_inspect(line);
  olmoe::add_verify(line);
  olmoe::add_make_random(line);
  return line.run(argc, argv);
}

#include "cli/json_output.hpp"

#include <iostream>

#include "sweep/sweep_plan.hpp"

namespace olmoe {

void print_json(const std::string& command, const nlohmann::ordered_json& result) {
  nlohmann::ordered_json document{{"schema", json_schema}, {"command", command}};
  document.update(result);
  std::cout << json_text(document);
}

}  // namespace olmoe

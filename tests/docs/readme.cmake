# Runs the README's program and compares what it prints with what the README says:
#   cmake -DPROGRAM=... -DREADME=... -P readme.cmake

execute_process(COMMAND ${PROGRAM} OUTPUT_VARIABLE printed COMMAND_ERROR_IS_FATAL ANY)
file(READ ${README} readme)
string(FIND "${readme}" "\n```text\n${printed}```\n" place)
if(printed STREQUAL "" OR place EQUAL -1)
  message(FATAL_ERROR "the README does not show what its program prints:\n${printed}")
endif()

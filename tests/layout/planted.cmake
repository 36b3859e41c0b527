# The layout test must see what it is there for: all its faults, planted in a copy of the tree.
#
#   cmake -DFDROUTE_SOURCE_DIR=... -DSCRATCH=... -P planted.cmake

file(REMOVE_RECURSE ${SCRATCH})
file(COPY ${FDROUTE_SOURCE_DIR}/reference ${FDROUTE_SOURCE_DIR}/include DESTINATION ${SCRATCH}
  FILES_MATCHING PATTERN "*.hpp" PATTERN "*.h" PATTERN "*.cpp" PATTERN "*.inc")
file(COPY ${FDROUTE_SOURCE_DIR}/docs/floors.svg ${FDROUTE_SOURCE_DIR}/docs/architecture.md
  DESTINATION ${SCRATCH}/docs)

# plant(<file> <text> <what the check must say, a regular expression>): appends a line of text.
set(all_expected "")
function(plant file text expected)
  file(APPEND ${SCRATCH}/${file} "${text}\n")
  set(all_expected ${all_expected} ${expected} PARENT_SCOPE)
endfunction()
plant(reference/formats/json.hpp "#include \"cli/commands.hpp\""
  "formats/json.hpp includes cli/commands.hpp, which stands above it")
plant(reference/tokenizer/unicode.cpp "#  include <forward/ops.hpp>  // spaces, <>"
  "tokenizer/unicode.cpp includes forward/ops.hpp, which stands above it")
plant(include/fdroute/detail/row/score_maps.hpp "#include \"fdroute/detail/block/write.hpp\""
  "detail/row/score_maps.hpp includes detail/block/write.hpp, which stands above it")
plant(include/fdroute/bounds.hpp "#include \"formats/json.hpp\""
  "bounds.hpp of the library includes formats/json.hpp of the reference")
plant(reference/forward/ops.cpp "#include \"../sweep/sweep.hpp\""
  "forward/ops.cpp includes ../sweep/sweep.hpp, which is no path from the root")
plant(reference/forward/ops.cpp "#include \"attention.hpp\""
  "forward/ops.cpp includes attention.hpp, which is no path from the root")
plant(include/fdroute/views.hpp "#include \"fdroute/execution.hpp\""
  "these include one another, or what does: .*execution.hpp.*views.hpp")
plant(reference/attic/old.cpp "" "attic/old.cpp has no floor")
string(REPEAT "\n" 500 lines)
plant(reference/cli/batch.cpp "${lines}" "cli/batch.cpp has [0-9]+ lines: at most 500")
plant(include/fdroute/arch.hpp "${lines}" "arch.hpp has [0-9]+ lines: at most 350")
plant(reference/forward/new.hpp "// one more" "docs/floors.svg is not what the includes say")

execute_process(
  COMMAND ${CMAKE_COMMAND} -Dfdroute_root=${SCRATCH} -P ${CMAKE_CURRENT_LIST_DIR}/check.cmake
  RESULT_VARIABLE result OUTPUT_QUIET ERROR_VARIABLE words)
if(result EQUAL 0)
  message(FATAL_ERROR "the check passes")
endif()
string(REGEX REPLACE "[ \n]+" " " words "${words}")
foreach(expected IN LISTS all_expected)
  if(NOT words MATCHES "${expected}")
    message(FATAL_ERROR "the check does not say '${expected}' but\n${words}")
  endif()
endforeach()
file(REMOVE_RECURSE ${SCRATCH})

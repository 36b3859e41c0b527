# Builds and runs the consumer project as a user would, with warnings as errors:
#
#   cmake -DMODE=find_package|add_subdirectory -DFDROUTE_SOURCE_DIR=... -DFDROUTE_BINARY_DIR=...
#         -DSCRATCH=... -DGENERATOR=... -DMAKE_PROGRAM=... -DCOMPILER=... -P check.cmake

file(REMOVE_RECURSE ${SCRATCH})

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result OUTPUT_VARIABLE output
    ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    string(JOIN " " command ${ARGV})
    message(FATAL_ERROR "${command}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

if(MODE STREQUAL "find_package")
  run(${CMAKE_COMMAND} --install ${FDROUTE_BINARY_DIR} --prefix ${SCRATCH}/prefix)
  # As ordinary headers: a system directory's would be allowed their warnings.
  set(where -DCMAKE_PREFIX_PATH=${SCRATCH}/prefix -DCMAKE_NO_SYSTEM_FROM_IMPORTED=ON)
elseif(MODE STREQUAL "add_subdirectory")
  set(where -DFDROUTE_SOURCE_DIR=${FDROUTE_SOURCE_DIR})
else()
  message(FATAL_ERROR "unknown MODE '${MODE}'")
endif()

run(${CMAKE_COMMAND} -G ${GENERATOR} -DCMAKE_MAKE_PROGRAM=${MAKE_PROGRAM}
  -DCMAKE_CXX_COMPILER=${COMPILER} -DCMAKE_BUILD_TYPE=Debug
  "-DCMAKE_CXX_FLAGS=-Werror -Wall -Wextra -Wpedantic -Wconversion -Wshadow"
  ${where} -S ${CMAKE_CURRENT_LIST_DIR} -B ${SCRATCH}/build)
run(${CMAKE_COMMAND} --build ${SCRATCH}/build)
run(${SCRATCH}/build/consumer)
if(NOT output STREQUAL "expert 1, weight 0.583909\nexpert 4, weight 0.354159\n2 of one's own\n")
  message(FATAL_ERROR "the consumer prints:\n${output}")
endif()

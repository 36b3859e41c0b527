# Builds and runs the consumer project as a user would, with warnings as errors:
#
#   cmake -DMODE=find_package|find_package_unbuilt|fetch_content -DFDROUTE_SOURCE_DIR=...
#         -DFDROUTE_BINARY_DIR=... -DEXPECT_C_API=... -DSCRATCH=... -DGENERATOR=...
#         -DMAKE_PROGRAM=... -DCOMPILER=... -P check.cmake
#
# find_package_unbuilt installs from a build directory in which nothing was built.

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

set(tools -G ${GENERATOR} -DCMAKE_MAKE_PROGRAM=${MAKE_PROGRAM} -DCMAKE_CXX_COMPILER=${COMPILER})
if(MODE STREQUAL "find_package_unbuilt")
  set(FDROUTE_BINARY_DIR ${SCRATCH}/unbuilt)
  set(EXPECT_C_API OFF)
  run(${CMAKE_COMMAND} ${tools} -S ${FDROUTE_SOURCE_DIR} -B ${FDROUTE_BINARY_DIR}
    -DFDROUTE_BUILD_C_API=ON -DFDROUTE_BUILD_REFERENCE=OFF -DFDROUTE_BUILD_TESTS=OFF)
endif()
if(MODE MATCHES "^find_package")
  run(${CMAKE_COMMAND} --install ${FDROUTE_BINARY_DIR} --prefix ${SCRATCH}/prefix)
  # As ordinary headers: a system directory's would be allowed their warnings.
  set(where -DCMAKE_PREFIX_PATH=${SCRATCH}/prefix -DCMAKE_NO_SYSTEM_FROM_IMPORTED=ON
    -DEXPECT_C_API=${EXPECT_C_API})
elseif(MODE STREQUAL "fetch_content")
  # What a release's archive holds of the library.
  file(MAKE_DIRECTORY ${SCRATCH}/source)
  foreach(part IN ITEMS CMakeLists.txt LICENSE include)
    file(COPY ${FDROUTE_SOURCE_DIR}/${part} DESTINATION ${SCRATCH}/source)
  endforeach()
  run(${CMAKE_COMMAND} -E chdir ${SCRATCH} ${CMAKE_COMMAND} -E tar czf fdroute.tar.gz source)
  set(where -DFDROUTE_ARCHIVE=${SCRATCH}/fdroute.tar.gz)
else()
  message(FATAL_ERROR "unknown MODE '${MODE}'")
endif()

run(${CMAKE_COMMAND} ${tools} -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-g0
  "-DCMAKE_CXX_FLAGS=-Werror -Wall -Wextra -Wpedantic -Wconversion -Wshadow"
  ${where} -S ${CMAKE_CURRENT_LIST_DIR} -B ${SCRATCH}/build)
if(MODE STREQUAL "find_package_unbuilt")
  return()  # the headers are those of find_package
endif()
run(${CMAKE_COMMAND} --build ${SCRATCH}/build --target consumer)
run(${SCRATCH}/build/consumer)
if(NOT output STREQUAL "expert 1, weight 0.583909\nexpert 4, weight 0.354159\n")
  message(FATAL_ERROR "the consumer prints:\n${output}")
endif()
if(MODE STREQUAL "fetch_content")
  return()  # the headers are those of find_package
endif()
run(${CMAKE_COMMAND} --build ${SCRATCH}/build --target consumer_own)
run(${SCRATCH}/build/consumer_own)
string(JOIN "" expected
  "2 of one's own\n"
  "first_few:level=0.8,min_k=1,max_k=8,null=normal,score=logit,mean=0,sd=1,temperature=1,"
  "renormalize=false: 2\n"
  "equal_shares:k=3,min_k=1,max_k=8: 3\n"
  "bh:alpha=0.05,min_k=1,max_k=8,null=normal,score=logit,mean=0,sd=1,temperature=1,"
  "renormalize=false: 2\n")
string(FIND "${output}" "${expected}" at)
if(NOT at EQUAL 0 OR NOT output MATCHES
    "\npolicy 'last_few', position 1: unknown policy 'last_few' .did you mean 'first_few'..; accepted are topk, .*, first_few, equal_shares\n$")
  message(FATAL_ERROR "the consumer of its own policies prints:\n${output}")
endif()

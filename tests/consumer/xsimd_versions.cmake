# Which xsimd the build and the installed package take: 8.1 or newer, of any major version.
#
#   cmake -DFDROUTE_SOURCE_DIR=... -DSCRATCH=... -DGENERATOR=... -DMAKE_PROGRAM=... -DCOMPILER=...
#         -P xsimd_versions.cmake

include(CMakePackageConfigHelpers)
file(REMOVE_RECURSE ${SCRATCH})

# Packages that, like xsimd's own, take a version of their own major one only.
foreach(version IN ITEMS 8.0.5 15.0.1)
  file(WRITE ${SCRATCH}/${version}/xsimdConfig.cmake
    "add_library(xsimd INTERFACE IMPORTED)\n"
    "target_include_directories(xsimd INTERFACE \${CMAKE_CURRENT_LIST_DIR})\n")
  write_basic_package_version_file(${SCRATCH}/${version}/xsimdConfigVersion.cmake
    VERSION ${version} COMPATIBILITY SameMajorVersion ARCH_INDEPENDENT)
endforeach()

# configure(<version of xsimd> <words of the refusal, or ""> <arguments>...)
function(configure version refusal)
  execute_process(
    COMMAND ${CMAKE_COMMAND} -G ${GENERATOR} -DCMAKE_MAKE_PROGRAM=${MAKE_PROGRAM}
      -DCMAKE_CXX_COMPILER=${COMPILER} -Dxsimd_DIR=${SCRATCH}/${version} ${ARGN}
    RESULT_VARIABLE result OUTPUT_QUIET ERROR_VARIABLE words)
  string(REGEX REPLACE "[ \n]+" " " words "${words}")
  if(refusal STREQUAL "" AND NOT result EQUAL 0)
    message(FATAL_ERROR "xsimd ${version} is refused: ${words}")
  elseif(NOT refusal STREQUAL "" AND (result EQUAL 0 OR NOT words MATCHES "${refusal}"))
    message(FATAL_ERROR "of xsimd ${version}, CMake does not say '${refusal}', but: ${words}")
  endif()
endfunction()

set(refusal "fdroute needs xsimd 8.1 or newer, found 8.0.5")
set(library -S ${FDROUTE_SOURCE_DIR} -DFDROUTE_BUILD_REFERENCE=OFF -DFDROUTE_BUILD_C_API=OFF
  -DFDROUTE_BUILD_TESTS=OFF)
configure(8.0.5 ${refusal} ${library} -B ${SCRATCH}/old)
configure(15.0.1 "" ${library} -B ${SCRATCH}/new)

execute_process(COMMAND ${CMAKE_COMMAND} --install ${SCRATCH}/new --prefix ${SCRATCH}/prefix
  OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
set(user -S ${CMAKE_CURRENT_LIST_DIR} -DEXPECT_C_API=OFF -DCMAKE_PREFIX_PATH=${SCRATCH}/prefix)
configure(8.0.5 ${refusal} ${user} -B ${SCRATCH}/user_of_old)
configure(15.0.1 "" ${user} -B ${SCRATCH}/user_of_new)

# One test of what must not compile:
#
#   cmake -DCOMPILER=... -DFLAGS=... -DGOOD_FLAGS=... -DSOURCE=... -DEXPECTED=... -P check.cmake
#
# SOURCE compiles as it stands, and does not with FDROUTE_FAIL defined; the compiler's words then match
# the regular expression EXPECTED. The good form shows that nothing else in the file is at fault.
# GOOD_FLAGS are given to the good form alone.

# In English, without typographic quotes.
set(command ${CMAKE_COMMAND} -E env LC_ALL=C ${COMPILER} -std=c++20 -fsyntax-only ${FLAGS})

execute_process(
  COMMAND ${command} ${GOOD_FLAGS} ${SOURCE}
  RESULT_VARIABLE result ERROR_VARIABLE words)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "the good form of ${SOURCE} does not compile:\n${words}")
endif()

execute_process(
  COMMAND ${command} -DFDROUTE_FAIL ${SOURCE}
  RESULT_VARIABLE result ERROR_VARIABLE words)
if(result EQUAL 0)
  message(FATAL_ERROR "the bad form of ${SOURCE} compiles")
endif()
if(NOT words MATCHES "${EXPECTED}")
  message(FATAL_ERROR "the compiler does not say '${EXPECTED}' of ${SOURCE}:\n${words}")
endif()

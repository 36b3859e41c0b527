# One test of what must not compile:
#
#   cmake -DCOMPILER=... -DFLAGS=... -DGOOD_FLAGS=... -DFLAW=... -DSOURCE=... -DEXPECTED=...
#         -P check.cmake
#
# SOURCE compiles as it stands, and does not with FDROUTE_FAIL defined, as FLAW if one is given; the
# compiler's first error then matches the regular expression EXPECTED, and no static assertion fails
# but that one. The good form shows that nothing else in the file is at fault. GOOD_FLAGS are given
# to the good form alone. Of a source with many flaws, FLAW=good tests the good form, once.

# In English, without typographic quotes.
set(command ${CMAKE_COMMAND} -E env LC_ALL=C ${COMPILER} -std=c++20 -fsyntax-only ${FLAGS})

if(NOT FLAW OR FLAW STREQUAL "good")
  execute_process(
    COMMAND ${command} ${GOOD_FLAGS} ${SOURCE}
    RESULT_VARIABLE result ERROR_VARIABLE words)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "the good form of ${SOURCE} does not compile:\n${words}")
  endif()
endif()
if(FLAW STREQUAL "good")
  return()
endif()

set(define -DFDROUTE_FAIL)
if(FLAW)
  set(define -DFDROUTE_FAIL=${FLAW})
endif()
execute_process(
  COMMAND ${command} ${define} ${SOURCE}
  RESULT_VARIABLE result ERROR_VARIABLE words)
if(result EQUAL 0)
  message(FATAL_ERROR "the bad form of ${SOURCE} compiles")
endif()
string(REGEX MATCHALL "error: [^\n]*" errors "${words}")
list(GET errors 0 first)
if(NOT first MATCHES "${EXPECTED}")
  message(FATAL_ERROR "the compiler does not say '${EXPECTED}' of ${SOURCE}:\n${words}")
endif()
# What follows from the flaw may be said, but nothing that is not so.
list(FILTER errors INCLUDE REGEX "static.assert")
list(LENGTH errors n)
if(n GREATER 1)
  message(FATAL_ERROR "more than one assertion fails of ${SOURCE}:\n${words}")
endif()

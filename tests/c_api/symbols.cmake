# The symbols that libfdroute_c exports are those of symbols.txt, and those that c_api.h declares,
# all under the symbol version of VERSION. A symbol that goes, or comes, changes the ABI: then
# symbols.txt changes with it.

execute_process(COMMAND ${NM} --dynamic --defined-only ${LIBRARY}
  OUTPUT_VARIABLE exported COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]+" lines "${exported}")
set(symbols "")
foreach(line IN LISTS lines)
  string(REGEX REPLACE "^[0-9a-f]* *[A-Za-z] " "" symbol "${line}")
  if(NOT line MATCHES " A ")  # the name of a version itself
    list(APPEND symbols "${symbol}")
  endif()
endforeach()
list(SORT symbols)

file(STRINGS ${LIST} listed)
list(FILTER listed EXCLUDE REGEX "^#")
list(TRANSFORM listed APPEND @@FDROUTE_${VERSION} OUTPUT_VARIABLE versioned)
if(NOT symbols STREQUAL versioned)
  string(REPLACE ";" "\n  " symbols "${symbols}")
  message(FATAL_ERROR "${LIBRARY} exports other symbols than ${LIST}:\n  ${symbols}")
endif()

file(READ ${HEADER} header)
string(REGEX REPLACE "/\\*[^*]*\\*+([^/*][^*]*\\*+)*/" "" header "${header}")
string(REGEX MATCHALL "FDROUTE_C_API[^;(]*fdroute_[a-z_]+\\(" declared "${header}")
list(TRANSFORM declared REPLACE "^.*(fdroute_[a-z_]+)\\($" "\\1")
list(SORT declared)
if(NOT declared STREQUAL listed)
  message(FATAL_ERROR "${HEADER} declares other functions than ${LIST}:\n  ${declared}")
endif()

# Checks the floors of docs/floors.cmake:
#
#   cmake -Dfdroute_root=... -P check.cmake
#
# Every file has a floor. Includes go down or stay, name files by their paths from the root, and
# make no circle. No file is too long, and half of them are short. docs/floors.svg is what
# docs/floors.cmake draws.

include(${CMAKE_CURRENT_LIST_DIR}/../../docs/floors.cmake)
fdroute_read_houses()
set(faults "")

foreach(file IN LISTS homeless)
  list(APPEND faults "${file} has no floor: name its folder in docs/floors.cmake")
endforeach()

# ---- Includes go down ----------------------------------------------------------------------------

set(files "")
foreach(id IN LISTS all_floors)
  list(APPEND files ${files_${id}})
endforeach()

foreach(file IN LISTS files)
  string(SUBSTRING ${floor_${file}} 0 1 house)
  string(SUBSTRING ${floor_${file}} 1 -1 floor)
  foreach(included IN LISTS includes_${file})
    if(NOT DEFINED floor_${included})
      if(included MATCHES "^\\.|\\.(hpp|inc)$" AND NOT included MATCHES "^nlohmann/|^CLI/|^xsimd/")
        list(APPEND faults "${file} includes ${included}, which is no path from the root")
      endif()
      continue()
    endif()
    string(SUBSTRING ${floor_${included}} 0 1 included_house)
    string(SUBSTRING ${floor_${included}} 1 -1 included_floor)
    if(house STREQUAL included_house AND included_floor LESS floor)
      list(APPEND faults "${file} includes ${included}, which stands above it")
    elseif(house STREQUAL "L" AND included_house STREQUAL "R")
      list(APPEND faults "${file} of the library includes ${included} of the reference")
    endif()
  endforeach()
endforeach()

# ---- No circle: take away files that include nothing more, until none is left --------------------

set(left ${files})
set(taken TRUE)
while(taken)
  set(taken FALSE)
  set(rest "")
  foreach(file IN LISTS left)
    set(free TRUE)
    foreach(included IN LISTS includes_${file})
      if(DEFINED floor_${included} AND NOT DEFINED done_${included})
        set(free FALSE)
        break()
      endif()
    endforeach()
    if(free)
      set(done_${file} TRUE)
      set(taken TRUE)
    else()
      list(APPEND rest ${file})
    endif()
  endforeach()
  set(left ${rest})
endwhile()
if(left)
  list(JOIN left " " left)
  list(APPEND faults "these include one another, or what does: ${left}")
endif()

# ---- Lengths -------------------------------------------------------------------------------------

function(fdroute_check_lengths root floors longest)
  set(lengths "")
  set(found ${faults})
  foreach(id IN LISTS ${floors})
    foreach(file IN LISTS files_${id})
      file(READ ${root}/${file} text)
      string(REGEX REPLACE "[^\n]" "" newlines "${text}")
      string(LENGTH "${newlines}" length)
      list(APPEND lengths ${length})
      if(length GREATER longest)
        list(APPEND found "${file} has ${length} lines: at most ${longest}")
      endif()
    endforeach()
  endforeach()
  list(SORT lengths COMPARE NATURAL)
  list(LENGTH lengths n)
  math(EXPR middle "${n} / 2")
  list(GET lengths ${middle} median)
  if(median GREATER 120)
    list(APPEND found "half of the files in ${root} have ${median} lines or more: at most 120")
  endif()
  message(STATUS "${root}: ${n} files, median ${median} lines")
  set(faults ${found} PARENT_SCOPE)
endfunction()
fdroute_check_lengths(${fdroute_root}/reference R_floors 500)
fdroute_check_lengths(${fdroute_root}/include/fdroute L_floors 350)

# ---- The picture ---------------------------------------------------------------------------------

fdroute_draw(picture)
file(READ ${fdroute_root}/docs/floors.svg drawn)
if(NOT drawn STREQUAL picture)
  list(APPEND faults "docs/floors.svg is not what the includes say: run cmake -P docs/floors.cmake")
endif()

# ---- docs/architecture.md: its quotations stand in the files (tests/docs checks its links) ---------

# A step of "Follow one token": a file and what the page says is in it.
function(fdroute_check_quotation file words)
  file(READ ${fdroute_root}/docs/architecture.md page)
  file(READ ${fdroute_root}/${file} text)
  string(FIND "${page}" "${words}" in_page)
  string(FIND "${text}" "${words}" in_file)
  if(in_page EQUAL -1 OR in_file EQUAL -1)
    list(APPEND faults "docs/architecture.md and ${file} do not both say '${words}'")
    set(faults ${faults} PARENT_SCOPE)
  endif()
endfunction()
fdroute_check_quotation(include/fdroute/detail/row/route_row.hpp "score(x) >= threshold")
fdroute_check_quotation(reference/forward/plain_forward.cpp "softmax(p[0], t + 1)")

if(faults)
  list(JOIN faults "\n" faults)
  message(FATAL_ERROR "${faults}")
endif()

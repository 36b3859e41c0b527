# The check of links must see what it is there for: a small tree with each fault, and what is none.
#
#   cmake -DSCRATCH=... -P links_planted.cmake

file(REMOVE_RECURSE ${SCRATCH})
file(WRITE ${SCRATCH}/reference/forward/model.cpp
  "// See forward/config.hpp, not read(config/json) or a/b.hpp.\n// Nor forward/gone.hpp.\n")
file(WRITE ${SCRATCH}/reference/forward/config.hpp "")
file(WRITE ${SCRATCH}/docs/other.md "# The `other` page: one, two\n```sh\n# no heading\n```\n")
file(WRITE ${SCRATCH}/README.md [=[
# Page
[file](docs/other.md), [heading](docs/other.md#the-other-page-one-two), [own](#page), [out](https://x.y/z)
`docs/other.md`, `forward/model`, `reference/*/config.hpp`, `model.cpp`, `forward/NAME.cpp`, `1/2`,
`yes/no`, `/proc/x/y.hpp`, `build/x.cpp`, `array[i](j)`, [`code`](docs/other.md).
```sh
cat docs/nowhere.md `x/nowhere.hpp` [a](fenced.md)
```
[no file](docs/nowhere.md), [no heading](docs/other.md#no-heading), [not own](#the-page), `forward/nowhere`,
`elsewhere/nowhere.hpp`, `nowhere.cpp`.
]=])

set(all_expected
  "README.md: the link 'docs/nowhere.md' leads to no file"
  "README.md: the link 'docs/other.md#no-heading' leads to no heading"
  "README.md: the link '#the-page' leads to no heading"
  "README.md: there is no `forward/nowhere`"
  "README.md: there is no `elsewhere/nowhere.hpp`"
  "README.md: there is no `nowhere.cpp`"
  "reference/forward/model.cpp: there is no a/b.hpp, which a comment names"
  "reference/forward/model.cpp: there is no forward/gone.hpp, which a comment names")
execute_process(
  COMMAND ${CMAKE_COMMAND} -Dfdroute_root=${SCRATCH} -P ${CMAKE_CURRENT_LIST_DIR}/links.cmake
  RESULT_VARIABLE result OUTPUT_QUIET ERROR_VARIABLE words)
if(result EQUAL 0)
  message(FATAL_ERROR "the check passes")
endif()
string(REGEX REPLACE "[ \n]+" " " words "${words}")
foreach(expected IN LISTS all_expected)
  string(FIND "${words}" "${expected}" place)
  if(place EQUAL -1)
    message(FATAL_ERROR "the check does not say '${expected}' but\n${words}")
  endif()
  string(REPLACE "${expected}" "" words "${words}")
endforeach()
if(words MATCHES "there is no|leads to no")
  message(FATAL_ERROR "the check also says\n${words}")
endif()
file(REMOVE_RECURSE ${SCRATCH})

# The files that name fdroute's version name the one of include/fdroute/version.hpp:
#   cmake -DFDROUTE_SOURCE_DIR=... -DVERSION=... -P versions.cmake

set(faults "")
# expect(<file> <regular expressions>...): each is found.
function(expect file)
  file(READ ${FDROUTE_SOURCE_DIR}/${file} text)
  foreach(words IN LISTS ARGN)
    if(NOT text MATCHES "${words}")
      set(faults ${faults} "${file}: no '${words}'" PARENT_SCOPE)
    endif()
  endforeach()
endfunction()

string(REPLACE . "\\." version ${VERSION})
string(REGEX REPLACE "\\.[0-9]+$" "" minor ${VERSION})
string(REPLACE . "\\." minor ${minor})
expect(CITATION.cff "\nversion: ${version}\n")
expect(reference/package/vcpkg/vcpkg.json "\"version\": \"${version}\"")
expect(reference/package/example/CMakeLists.txt "find_package\\(fdroute ${minor} ")
expect(include/fdroute/c_api.h "\"${version}\", https://semver.org")
expect(reference/python/pyproject.toml "\nversion = \"${version}\"\n")
expect(reference/python/fdroute/_library.py "libfdroute_c\\.so\\.${minor}\"")
expect(docs/install.md "libfdroute-c${minor}_${version}_amd64\\.deb" "find_package\\(fdroute ${minor} "
  "fdroute-${version}\\.tar\\.gz")
expect(docs/c-api.md "libfdroute_c\\.so\\.${minor}`" "`FDROUTE_${minor}`")
expect(docs/quickstart.md "find_package\\(fdroute ${minor} ")
expect(CONTRIBUTING.md "libfdroute-c${minor}`")
foreach(fault IN LISTS faults)
  message(SEND_ERROR "${fault}")
endforeach()

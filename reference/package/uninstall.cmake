# Removes what `cmake --install` wrote, by its lists: cmake -DBINARY_DIR=... -P uninstall.cmake
#
# A directory goes with its last file if fdroute is in its name or above it; the system's own stay.

file(GLOB manifests ${BINARY_DIR}/install_manifest*.txt)
if(NOT manifests)
  message(FATAL_ERROR "nothing was installed from ${BINARY_DIR}")
endif()
foreach(manifest IN LISTS manifests)
  file(STRINGS ${manifest} files)
  foreach(file IN LISTS files)
    file(REMOVE $ENV{DESTDIR}${file})
    cmake_path(GET file PARENT_PATH directory)
    while(directory MATCHES "/fdroute(/|$)")
      file(GLOB left LIST_DIRECTORIES true "$ENV{DESTDIR}${directory}/*" "$ENV{DESTDIR}${directory}/.*")
      if(left OR NOT EXISTS "$ENV{DESTDIR}${directory}")
        break()
      endif()
      file(REMOVE_RECURSE "$ENV{DESTDIR}${directory}")
      cmake_path(GET directory PARENT_PATH directory)
    endwhile()
  endforeach()
  file(REMOVE ${manifest})
endforeach()

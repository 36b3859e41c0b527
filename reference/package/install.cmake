# What `cmake --install` and CPack put where: docs/install.md. What was not built is not installed.
#
# Components: headers (the library, its CMake package, fdroute.pc), c (libfdroute_c, its header,
# fdroute-c.pc), tools (olmoe, its manual page and completions), docs (pages, examples).

include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/fdroute)
set(packaging ${PROJECT_SOURCE_DIR}/reference/package)

# fdroute_prefix_from(<directory> <variable>): the prefix as seen from a .pc file there, so
# that an installation can be moved.
function(fdroute_prefix_from directory result)
  if(IS_ABSOLUTE ${directory})
    set(${result} ${CMAKE_INSTALL_PREFIX} PARENT_SCOPE)
  else()
    file(RELATIVE_PATH up /${directory} /)
    string(REGEX REPLACE "/$" "" up ${up})
    set(${result} "\${pcfiledir}/${up}" PARENT_SCOPE)
  endif()
endfunction()

# ---- headers -------------------------------------------------------------------------------------

install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT headers)
install(TARGETS fdroute EXPORT fdroute)
install(EXPORT fdroute NAMESPACE fdroute:: FILE fdroute-targets.cmake
  DESTINATION ${package_dir} COMPONENT headers)

set(pkg_config_dir ${CMAKE_INSTALL_DATADIR}/pkgconfig)
fdroute_prefix_from(${pkg_config_dir} pc_prefix)
configure_file(${packaging}/fdroute.pc.in fdroute.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/fdroute.pc DESTINATION ${pkg_config_dir}
  COMPONENT headers)

# ---- c -------------------------------------------------------------------------------------------

set(c_library "")
if(FDROUTE_BUILD_C_API)
  install(TARGETS fdroute_c EXPORT fdroute_c OPTIONAL
    RUNTIME COMPONENT c LIBRARY COMPONENT c ARCHIVE COMPONENT c)
  install(FILES include/fdroute/c_api.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/fdroute COMPONENT c)
  # An export of its own: the package leaves it out where the library is not.
  install(EXPORT fdroute_c NAMESPACE fdroute:: FILE fdroute-c-targets.cmake
    DESTINATION ${package_dir} COMPONENT c)
  set(c_library ../../$<TARGET_LINKER_FILE_NAME:fdroute_c>)
  set(pkg_config_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
  fdroute_prefix_from(${pkg_config_dir} pc_prefix)
  configure_file(${packaging}/fdroute-c.pc.in fdroute-c.pc @ONLY)
  install(CODE "
    if(EXISTS \"$<TARGET_FILE:fdroute_c>\")
      file(INSTALL \"${CMAKE_CURRENT_BINARY_DIR}/fdroute-c.pc\"
        DESTINATION \"\${CMAKE_INSTALL_PREFIX}/${pkg_config_dir}\")
    endif()" COMPONENT c)
endif()

# ---- The CMake package, of headers and c ---------------------------------------------------------

write_basic_package_version_file(fdroute-config-version.cmake
  COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
file(READ ${packaging}/fdroute-config.cmake.in config)
string(CONFIGURE "${config}" config @ONLY)
file(GENERATE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/fdroute-config.cmake CONTENT "${config}")
foreach(component IN ITEMS headers c)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/fdroute-config.cmake
    ${CMAKE_CURRENT_BINARY_DIR}/fdroute-config-version.cmake
    DESTINATION ${package_dir} COMPONENT ${component})
endforeach()

# ---- tools ---------------------------------------------------------------------------------------

if(FDROUTE_BUILD_REFERENCE)
  install(TARGETS olmoe RUNTIME COMPONENT tools OPTIONAL)
  install(FILES ${OLMOE_MANUAL}/olmoe.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1
    COMPONENT tools OPTIONAL)
  install(FILES ${OLMOE_MANUAL}/olmoe.bash RENAME olmoe
    DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions COMPONENT tools OPTIONAL)
  install(FILES ${OLMOE_MANUAL}/_olmoe
    DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions COMPONENT tools OPTIONAL)
  install(FILES ${OLMOE_MANUAL}/olmoe.fish
    DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d COMPONENT tools OPTIONAL)
endif()

# ---- docs ----------------------------------------------------------------------------------------

foreach(component IN ITEMS headers c tools docs)
  install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT ${component})
endforeach()
install(FILES README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT docs)
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs COMPONENT docs
  FILES_MATCHING PATTERN "*.md" PATTERN "*.svg" PATTERN "site" EXCLUDE)
install(DIRECTORY ${packaging}/example/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples COMPONENT docs)
# The README's program is the example.
file(READ README.md readme)
string(REGEX REPLACE "^.*\n```cpp\n(.*)$" "\\1" readme "${readme}")
string(FIND "${readme}" "\n```" end)
string(SUBSTRING "${readme}" 0 ${end} readme)
file(CONFIGURE OUTPUT example/main.cpp CONTENT "@readme@\n" @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/example/main.cpp
  DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples COMPONENT docs)

# ---- uninstall -----------------------------------------------------------------------------------

if(PROJECT_IS_TOP_LEVEL)
  add_custom_target(uninstall
    COMMAND ${CMAKE_COMMAND} -DBINARY_DIR=${CMAKE_CURRENT_BINARY_DIR}
      -P ${packaging}/uninstall.cmake
    COMMENT "Removing what was installed" VERBATIM)

  set(CPACK_GENERATOR TGZ)
  set(CPACK_PACKAGE_NAME fdroute)
  set(CPACK_STRIP_FILES ON)
  set(CPACK_VERBATIM_VARIABLES ON)
  set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
  string(TOLOWER ${CMAKE_SYSTEM_NAME} system)
  set(CPACK_PACKAGE_FILE_NAME fdroute-${PROJECT_VERSION}-${system}-${CMAKE_SYSTEM_PROCESSOR})
  include(CPack)
endif()

# libweir for users: weir.h and weir_error.h, a static and a shared library, pkg-config and CMake config. The in-tree
# libraries below it (wire, sp, base) are folded into it, so that users link one file. Included by the top CMakeLists.txt.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(libweir_sources)
foreach(folder actors/base clients/wire clients/sp clients/lib)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${folder}/*.c)
  list(APPEND libweir_sources ${sources})
endforeach()

foreach(kind static shared)
  string(TOUPPER ${kind} upper)
  add_library(libweir_${kind} ${upper} EXCLUDE_FROM_ALL ${libweir_sources})
  target_link_libraries(libweir_${kind} PRIVATE weir_options nng::nng PkgConfig::MSGPACK PkgConfig::JANSSON)
  set_target_properties(libweir_${kind} PROPERTIES OUTPUT_NAME weir VERSION ${PROJECT_VERSION}
                        SOVERSION ${PROJECT_VERSION_MAJOR} EXPORT_NAME ${kind}
                        ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib
                        LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
endforeach()
if(NOT WEIR_FUZZ)
  set_target_properties(libweir_static libweir_shared PROPERTIES EXCLUDE_FROM_ALL OFF)
endif()

configure_file(${CMAKE_SOURCE_DIR}/clients/lib/weir.pc.in ${CMAKE_BINARY_DIR}/weir.pc @ONLY)
configure_file(${CMAKE_SOURCE_DIR}/clients/lib/weir-config.cmake.in ${CMAKE_BINARY_DIR}/weir-config.cmake @ONLY)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/weir-config-version.cmake VERSION ${PROJECT_VERSION}
                                 COMPATIBILITY SameMajorVersion)
if(NOT WEIR_FUZZ)
  install(TARGETS libweir_static libweir_shared LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
          ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(FILES clients/lib/weir.h actors/base/weir_error.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(FILES ${CMAKE_BINARY_DIR}/weir.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
  install(FILES ${CMAKE_BINARY_DIR}/weir-config.cmake ${CMAKE_BINARY_DIR}/weir-config-version.cmake
          DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/weir)
endif()

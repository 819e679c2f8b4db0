# libweir for users: weir.h and weir_error.h, a static and a shared library, pkg-config and CMake config. The in-tree
# libraries below it (wire, sp, base) are folded into it, so that users link one file. Included by CMakeLists.txt.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(libweir_objects)
foreach(folder actors_base clients_wire clients_sp clients_lib)
  list(APPEND libweir_objects $<TARGET_OBJECTS:${folder}>)
endforeach()

# The static library is one object in which everything that is not public is local: no name of ours can meet a user's.
set(libweir_object ${CMAKE_BINARY_DIR}/lib/libweir.o)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
add_custom_command(OUTPUT ${libweir_object}
  COMMAND ${CMAKE_C_COMPILER} -r -nostdlib -o ${libweir_object} ${libweir_objects}
  COMMAND ${CMAKE_OBJCOPY} --localize-hidden ${libweir_object}
  DEPENDS ${libweir_objects} COMMAND_EXPAND_LISTS VERBATIM)
add_library(libweir_static STATIC EXCLUDE_FROM_ALL ${libweir_object})
set_source_files_properties(${libweir_object} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
add_library(libweir_shared SHARED EXCLUDE_FROM_ALL ${libweir_objects})
target_link_libraries(libweir_shared PRIVATE weir_options PkgConfig::MSGPACK PkgConfig::JANSSON)
set_target_properties(libweir_static libweir_shared PROPERTIES
  LINKER_LANGUAGE C OUTPUT_NAME weir VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
  ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
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

# Uses what is installed as others would; not where the compiler's own additions would have to be linked as well.
if(NOT WEIR_FUZZ AND NOT WEIR_SANITIZE)
  enable_testing()
  add_test(NAME unit/clients/lib/install COMMAND ${CMAKE_SOURCE_DIR}/tests/tidy/install_test.sh ${CMAKE_BINARY_DIR})
  set_tests_properties(unit/clients/lib/install PROPERTIES TIMEOUT 300 LABELS unit)
endif()

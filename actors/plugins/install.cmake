# What plugin authors need and users get: weir_actor.h, its pkg-config file, and the plugins that come with Weir.
include(GNUInstallDirs)
file(STRINGS ${CMAKE_SOURCE_DIR}/actors/plugin/weir_actor.h abi REGEX "^#define WEIR_ACTOR_ABI_M(AJ|IN)OR [0-9]+$")
string(REGEX REPLACE "[^0-9;]" "" abi "${abi}")
list(JOIN abi "." WEIR_ACTOR_VERSION)
configure_file(${CMAKE_SOURCE_DIR}/actors/plugin/weir-actor.pc.in ${CMAKE_BINARY_DIR}/weir-actor.pc @ONLY)
install(FILES ${CMAKE_SOURCE_DIR}/actors/plugin/weir_actor.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${CMAKE_BINARY_DIR}/weir-actor.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
# The broker refuses plugins that others than their owner could overwrite, whatever the umask was.
install(TARGETS ${plugin_targets} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/weir/plugins
        PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)

# SPDX-License-Identifier: Apache-2.0
# The library, its headers, the program where it is built, and what find_package and pkg-config need to find them.
include(CMakePackageConfigHelpers)

install(TARGETS rewardhead EXPORT rewardheadTargets)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/host/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/doc/rewardhead)
if(TARGET rewardhead_cli)
  install(TARGETS rewardhead_cli)
endif()

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/rewardhead)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/rewardheadConfig.cmake.in rewardheadConfig.cmake
                              INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(rewardheadConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(EXPORT rewardheadTargets NAMESPACE rewardhead:: DESTINATION ${package_folder})
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/rewardheadConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/rewardheadConfigVersion.cmake
        DESTINATION ${package_folder})

# A static library hands on what it needs at link time: threads, and the C++ library for linkers started by a C compiler.
set(link_libraries ${CMAKE_CXX_IMPLICIT_LINK_LIBRARIES})
list(REMOVE_ITEM link_libraries ${CMAKE_C_IMPLICIT_LINK_LIBRARIES})
list(TRANSFORM link_libraries PREPEND -l)
list(JOIN link_libraries " " link_libraries)
get_target_property(library_type rewardhead TYPE)
if(library_type STREQUAL STATIC_LIBRARY)
  set(REWARDHEAD_PC_LIBS "-lrewardhead -pthread ${link_libraries}")
  if(REWARDHEAD_HAS_CUDA)
    string(APPEND REWARDHEAD_PC_LIBS " -L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -lrt -ldl")
  endif()
else()
  set(REWARDHEAD_PC_LIBS "-lrewardhead")
endif()
# Relative, so that an installed tree can be moved.
file(RELATIVE_PATH REWARDHEAD_PC_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(${CMAKE_CURRENT_LIST_DIR}/rewardhead.pc.in rewardhead.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/rewardhead.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# SPDX-License-Identifier: Apache-2.0
# Everything from outside, found once, here. Imported targets are seen by all folders below.

# rewardhead_find(NAME DEBIAN_PACKAGE OPTION [ARGUMENTS of find_package...])
macro(rewardhead_find name debian_package option)
  find_package(${name} ${ARGN} QUIET)
  if(NOT ${name}_FOUND)
    message(FATAL_ERROR "rewardhead: ${name} was not found. On Debian: apt-get install ${debian_package}. "
                        "It is not needed with -D${option}=OFF.")
  endif()
endmacro()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

if(REWARDHEAD_TOOLS)
  rewardhead_find(CLI11 libcli11-dev REWARDHEAD_TOOLS 2.1)
  rewardhead_find(nlohmann_json nlohmann-json3-dev REWARDHEAD_TOOLS 3.10)
  rewardhead_find(tomlplusplus libtomlplusplus-dev REWARDHEAD_TOOLS 3.0)
  # libcsv comes without a package file.
  find_path(CSV_INCLUDE_DIR csv.h)
  find_library(CSV_LIBRARY csv)
  mark_as_advanced(CSV_INCLUDE_DIR CSV_LIBRARY)
  if(NOT CSV_INCLUDE_DIR OR NOT CSV_LIBRARY)
    message(FATAL_ERROR "rewardhead: libcsv was not found. On Debian: apt-get install libcsv-dev. "
                        "It is not needed with -DREWARDHEAD_TOOLS=OFF.")
  endif()
  add_library(rewardhead_libcsv UNKNOWN IMPORTED)
  set_target_properties(rewardhead_libcsv PROPERTIES IMPORTED_LOCATION ${CSV_LIBRARY}
                                                     INTERFACE_INCLUDE_DIRECTORIES ${CSV_INCLUDE_DIR})
endif()
if(REWARDHEAD_TESTS)
  rewardhead_find(GTest libgtest-dev REWARDHEAD_TESTS)
endif()
if(REWARDHEAD_BENCH)
  rewardhead_find(benchmark libbenchmark-dev REWARDHEAD_BENCH)
endif()

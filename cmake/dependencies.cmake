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

# REWARDHEAD_HAS_CUDA: whether the kernels for GPUs are built. Off by default: nvcc takes its time, and no GPU has run
# them yet.
set(REWARDHEAD_HAS_CUDA FALSE)
set(cuda_option REWARDHEAD_CUDA)
if(REWARDHEAD_GPU_TESTS)
  set(REWARDHEAD_CUDA ON)
  set(cuda_option REWARDHEAD_GPU_TESTS)
endif()
if(NOT REWARDHEAD_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "rewardhead: REWARDHEAD_CUDA is ${REWARDHEAD_CUDA}; expected AUTO, ON or OFF")
endif()
if(NOT REWARDHEAD_CUDA STREQUAL "OFF")
  find_package(CUDAToolkit 13.0 QUIET)
  if(CUDAToolkit_FOUND AND CUDAToolkit_NVCC_EXECUTABLE AND TARGET CUDA::cudart_static)
    set(REWARDHEAD_HAS_CUDA TRUE)
    message(STATUS "With CUDA kernels, by ${CUDAToolkit_NVCC_EXECUTABLE} of CUDA ${CUDAToolkit_VERSION}")
  else()
    set(missing "the CUDA toolkit 13.0 or later was not found")
    if(CUDAToolkit_VERSION)
      string(APPEND missing ", only ${CUDAToolkit_VERSION} in ${CUDAToolkit_BIN_DIR}")
    endif()
    if(REWARDHEAD_CUDA STREQUAL "ON")
      message(FATAL_ERROR "rewardhead: ${missing}. -DCUDAToolkit_ROOT=DIR says where it is. It is not needed with "
                          "-D${cuda_option}=OFF.")
    endif()
    message(STATUS "Without CUDA kernels: ${missing}")
  endif()
endif()
# What nvcc compiles for, as its arguments. By default machine code for 8.0, which 8.6 and 8.9 run as well, and for 9.0;
# else for what CMAKE_CUDA_ARCHITECTURES names. Of the last also PTX, from which the driver compiles for what is newer.
if(REWARDHEAD_HAS_CUDA)
  set(REWARDHEAD_CUDA_TARGETS)
  foreach(architecture ${CMAKE_CUDA_ARCHITECTURES})
    string(REGEX REPLACE "^90a$" "90" architecture ${architecture})  # the kernels for 9.0a are always built
    if(NOT architecture MATCHES "^[0-9]+$" OR architecture LESS 80)
      message(FATAL_ERROR "rewardhead: CMAKE_CUDA_ARCHITECTURES has ${architecture}; expected numbers from 80 on, as in "
                          "80;90")
    endif()
    list(APPEND REWARDHEAD_CUDA_TARGETS -gencode arch=compute_${architecture},code=sm_${architecture})
    set(newest ${architecture})
  endforeach()
  if(NOT newest)
    set(REWARDHEAD_CUDA_TARGETS -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90)
    set(newest 90)
  endif()
  list(APPEND REWARDHEAD_CUDA_TARGETS -gencode arch=compute_${newest},code=compute_${newest})
endif()

if(REWARDHEAD_TOOLS)
  rewardhead_find(CLI11 libcli11-dev REWARDHEAD_TOOLS 2.1)
  rewardhead_find(nlohmann_json nlohmann-json3-dev REWARDHEAD_TOOLS 3.10)
  rewardhead_find(tomlplusplus libtomlplusplus-dev REWARDHEAD_TOOLS 3.0)
  # libcsv comes without a package file.
  find_path(CSV_INCLUDE_DIR csv.h)
  find_library(CSV_LIBRARY NAMES libcsv.a csv)  # static first: a wheel may find no other on its user's machine
  mark_as_advanced(CSV_INCLUDE_DIR CSV_LIBRARY)
  if(NOT CSV_INCLUDE_DIR OR NOT CSV_LIBRARY)
    message(FATAL_ERROR "rewardhead: libcsv was not found. On Debian: apt-get install libcsv-dev. "
                        "It is not needed with -DREWARDHEAD_TOOLS=OFF.")
  endif()
  add_library(rewardhead_libcsv UNKNOWN IMPORTED)
  set_target_properties(rewardhead_libcsv PROPERTIES IMPORTED_LOCATION ${CSV_LIBRARY}
                                                     INTERFACE_INCLUDE_DIRECTORIES ${CSV_INCLUDE_DIR})
endif()
if(REWARDHEAD_PYTHON)
  find_package(Python 3.11 COMPONENTS Interpreter Development.Module REQUIRED)
  execute_process(COMMAND ${Python_EXECUTABLE} -m nanobind --cmake_dir OUTPUT_VARIABLE nanobind_ROOT
                  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  find_package(nanobind CONFIG QUIET)
  if(NOT nanobind_FOUND)
    message(FATAL_ERROR "rewardhead: nanobind was not found. Install it for ${Python_EXECUTABLE}: pip install nanobind. "
                        "It is not needed with -DREWARDHEAD_PYTHON=OFF.")
  endif()
endif()
if(REWARDHEAD_TESTS)
  rewardhead_find(GTest libgtest-dev REWARDHEAD_TESTS)
endif()
if(REWARDHEAD_BENCH)
  rewardhead_find(benchmark libbenchmark-dev REWARDHEAD_BENCH)

  # The peers of the benchmarks, each only where it is, as targets rewardhead_peer_NAME. By header and library, since
  # oneDNN's package file requires OpenCL's headers and OpenBLAS's has no target.
  find_package(OpenMP COMPONENTS CXX QUIET)
  find_path(OPENBLAS_INCLUDE_DIR openblas_config.h PATH_SUFFIXES openblas-pthread openblas)
  find_library(OPENBLAS_LIBRARY openblas)
  find_path(ONEDNN_INCLUDE_DIR oneapi/dnnl/dnnl.hpp)
  find_library(ONEDNN_LIBRARY dnnl)
  find_path(EIGEN_INCLUDE_DIR Eigen/Core PATH_SUFFIXES eigen3)
  mark_as_advanced(OPENBLAS_INCLUDE_DIR OPENBLAS_LIBRARY ONEDNN_INCLUDE_DIR ONEDNN_LIBRARY EIGEN_INCLUDE_DIR)

  # rewardhead_peer(NAME DEBIAN_PACKAGE INCLUDE_DIR [LIBRARY...]): a value of *-NOTFOUND leaves the peer out.
  function(rewardhead_peer name debian_package)
    foreach(part ${ARGN})
      if(NOT part)
        message(STATUS "Benchmarks without ${name}, which was not found. On Debian: apt-get install ${debian_package}")
        return()
      endif()
    endforeach()
    list(POP_FRONT ARGN include_dir)
    add_library(rewardhead_peer_${name} INTERFACE IMPORTED GLOBAL)
    target_include_directories(rewardhead_peer_${name} SYSTEM INTERFACE ${include_dir})
    target_link_libraries(rewardhead_peer_${name} INTERFACE ${ARGN})
  endfunction()

  rewardhead_peer(openblas libopenblas-dev ${OPENBLAS_INCLUDE_DIR} ${OPENBLAS_LIBRARY})
  rewardhead_peer(eigen libeigen3-dev ${EIGEN_INCLUDE_DIR})
  set(onednn_2 FALSE)
  if(ONEDNN_INCLUDE_DIR)
    file(STRINGS ${ONEDNN_INCLUDE_DIR}/oneapi/dnnl/dnnl_version.h onednn_2 REGEX "define DNNL_VERSION_MAJOR 2")
  endif()
  if(ONEDNN_INCLUDE_DIR AND NOT (onednn_2 AND OpenMP_CXX_FOUND))
    message(STATUS "Benchmarks without onednn: bench/peers/onednn.cpp is written for oneDNN 2 and needs OpenMP")
  else()
    rewardhead_peer(onednn libdnnl-dev ${ONEDNN_INCLUDE_DIR} ${ONEDNN_LIBRARY})
  endif()
endif()

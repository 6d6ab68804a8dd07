# SPDX-License-Identifier: Apache-2.0
# cmake -DBUILD=build folder -DWORK=scratch folder -DARGUMENTS=compilers and the like -DMODE=install|subdirectory -P
#
# install       installs BUILD and links the consumer with find_package and with pkg-config
# subdirectory  builds the consumer with the sources as a part of it, first as a static, then as a shared library;
#               installs the latter, and links it likewise

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "${command}\n${output}")
  endif()
endfunction()

function(consume from)
  run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${WORK}/${from} -DREWARDHEAD_FROM=${from}
      -DCMAKE_PREFIX_PATH=${WORK}/prefix -DCMAKE_BUILD_TYPE=Release ${ARGUMENTS} ${ARGN})
  run(${CMAKE_COMMAND} --build ${WORK}/${from})
  run(${CMAKE_CTEST_COMMAND} --test-dir ${WORK}/${from} --output-on-failure --no-tests=error)
endfunction()

# What is installed, and nothing else; `program` where it was built.
function(install_and_check build program)
  run(${CMAKE_COMMAND} --install ${build} --prefix ${WORK}/prefix)
  file(GLOB_RECURSE installed RELATIVE ${WORK}/prefix ${WORK}/prefix/*)
  list(TRANSFORM installed REPLACE "^lib(32|64)?(/[^/]+-linux-gnu[^/]*)?/" "lib/")
  list(FILTER installed EXCLUDE REGEX "^lib/librewardhead\\.(a|so[.0-9]*)$")
  list(FILTER installed EXCLUDE REGEX "^lib/cmake/rewardhead/rewardhead(Config|ConfigVersion|Targets|Targets-[a-z]+)\\.cmake$")
  set(expected include/rewardhead/rewardhead.h include/rewardhead/rewardhead.hpp lib/pkgconfig/rewardhead.pc
               share/doc/rewardhead/LICENSE)
  if(program)
    list(PREPEND expected bin/rewardhead)
    run(${WORK}/prefix/bin/rewardhead --version)
  endif()
  if(NOT installed STREQUAL expected)
    message(FATAL_ERROR "installed, besides the library and its CMake files:\n${installed}\nexpected:\n${expected}")
  endif()
endfunction()

file(REMOVE_RECURSE ${WORK})
if(MODE STREQUAL "install")
  install_and_check(${BUILD} TRUE)
else()
  consume(subdirectory)
  consume(subdirectory -DBUILD_SHARED_LIBS=ON)
  install_and_check(${WORK}/subdirectory FALSE)
  file(GLOB_RECURSE library ${WORK}/prefix/librewardhead.so)
  execute_process(COMMAND nm --dynamic --defined-only --format=just-symbols ${library}
                  OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(STRIP "${symbols}" symbols)
  string(REPLACE "\n" ";" symbols "${symbols}")
  list(FILTER symbols EXCLUDE REGEX "^rh_")
  if(symbols)
    message(FATAL_ERROR "the shared library exports ${symbols}")
  endif()
endif()
consume(package)
file(GLOB_RECURSE pc ${WORK}/prefix/rewardhead.pc)
cmake_path(GET pc PARENT_PATH pc_folder)
set(ENV{PKG_CONFIG_PATH} ${pc_folder})
consume(pkg-config)

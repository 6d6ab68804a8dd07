# SPDX-License-Identifier: Apache-2.0
# OBJECTS compiled for one instruction set may define nothing that the linker could merge with, or call in place of,
# its namesake of another: exactly one external function, FUNCTION, and nothing weak (kernels/cpu/table.h says why).
execute_process(COMMAND ${NM} --defined-only --extern-only --demangle ${OBJECTS}
                OUTPUT_VARIABLE symbols RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${NM} ${OBJECTS} failed: ${status}")
endif()
string(REGEX REPLACE "[0-9a-f]+ ([A-Za-z]) " "\\1 " symbols "${symbols}")
string(STRIP "${symbols}" symbols)
set(expected "T rewardhead::kernels::${FUNCTION}()")
if(NOT symbols STREQUAL expected)
  message(FATAL_ERROR "${OBJECTS} defines for all the world\n${symbols}\nexpected only\n${expected}")
endif()

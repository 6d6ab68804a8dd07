# SPDX-License-Identifier: Apache-2.0
# cmake -DSOURCE=repository -P: the C++ example of README.md is the program that the consumer project compiles and runs.
file(READ ${SOURCE}/README.md readme)
file(READ ${SOURCE}/tests/consumer/readme_example.cpp example)
string(REPLACE "// SPDX-License-Identifier: Apache-2.0\n" "" example "${example}")
string(FIND "${readme}" "```cpp\n${example}```\n" position)
if(position EQUAL -1)
  message(FATAL_ERROR "README.md does not hold the text of tests/consumer/readme_example.cpp")
endif()

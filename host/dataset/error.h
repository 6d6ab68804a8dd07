// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>

namespace rewardhead {

// Input from outside (a file, an option) that cannot be used. The message names the file and the line, tensor or
// argument, what was found, and what was expected.
class InputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace rewardhead

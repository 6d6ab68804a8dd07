// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <stdexcept>
#include <string>

#include "rewardhead/rewardhead.h"

namespace rewardhead::runtime {

// Carries a status and its sentence to the C boundary, and never across it (api.cpp).
class ApiError : public std::runtime_error {
 public:
  ApiError(rh_status status, const std::string& message) : std::runtime_error(message), status_(status) {}
  rh_status status() const { return status_; }

 private:
  rh_status status_;
};

[[noreturn]] inline void refuse(const std::string& message) { throw ApiError(RH_INVALID_ARGUMENT, message); }

inline void require(bool condition, const char* message) {
  if (!condition) refuse(message);
}

// An enum as the integer that a C caller may have put there: loading what is no value of the enum is not defined.
template <class Enum>
int integer(const Enum& value) {
  int result;
  static_assert(sizeof result == sizeof value);
  std::memcpy(&result, &value, sizeof result);
  return result;
}

// "NAME is VALUE; expected FIRST to LAST"
template <class Integer>
void require_range(const char* name, Integer value, Integer first, Integer last) {
  if (value >= first && value <= last) return;
  refuse(std::string(name) + " is " + std::to_string(value) + "; expected " + std::to_string(first) + " to " +
         std::to_string(last));
}

}  // namespace rewardhead::runtime

// SPDX-License-Identifier: Apache-2.0
#include <nanobind/nanobind.h>

#include <string>

#include "host/dataset/error.h"
#include "host/python/bindings/bindings.h"
#include "rewardhead/rewardhead.hpp"

namespace nb = nanobind;

namespace {

// Messages name options and members as the command line and the C interface do; Python has plain names.
std::string plain(std::string message) {
  for (const std::string prefix : {"pairs->", "x->", "--"}) {
    for (size_t at = 0; (at = message.find(prefix, at)) != std::string::npos;) message.erase(at, prefix.size());
  }
  return message;
}

void translate(const std::exception_ptr& error, void*) {
  try {
    std::rethrow_exception(error);
  } catch (const rewardhead::InputError& input) {
    PyErr_SetString(PyExc_ValueError, plain(input.what()).c_str());
  } catch (const rewardhead::Error& refused) {
    const bool value = refused.status() == RH_INVALID_ARGUMENT;
    PyErr_SetString(value ? PyExc_ValueError : PyExc_RuntimeError, plain(refused.what()).c_str());
  }
}

}  // namespace

NB_MODULE(_core, module) {
  nb::register_exception_translator(translate);
  module.attr("__version__") = rh_version();
  rewardhead::python::bind_model(module);
  rewardhead::python::bind_data(module);
  rewardhead::python::bind_kernels(module);
}

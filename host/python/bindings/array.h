// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nanobind/ndarray.h>

#include <memory>
#include <utility>
#include <vector>

namespace rewardhead::python {

// A NumPy array [size] that owns the vector's memory. The GIL is held.
template <class T>
nanobind::object as_array(std::vector<T> values) {
  auto moved = std::make_unique<std::vector<T>>(std::move(values));
  const nanobind::capsule owner(moved.get(), [](void* memory) noexcept { delete static_cast<std::vector<T>*>(memory); });
  std::vector<T>* kept = moved.release();
  return nanobind::cast(nanobind::ndarray<nanobind::numpy, T, nanobind::ndim<1>>(kept->data(), {kept->size()}, owner));
}

}  // namespace rewardhead::python

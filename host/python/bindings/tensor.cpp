// SPDX-License-Identifier: Apache-2.0
#include "host/python/bindings/tensor.h"

#include <stdexcept>

namespace nb = nanobind;

namespace rewardhead::python {
namespace {

// DLPackExchangeAPI of DLPack 1.3.
struct ExchangeApi {
  struct {
    uint32_t major, minor;
    void* previous;
  } header;
  void* allocate;
  void* from_object;
  void* to_object;
  int (*view_of_object)(void* object, void* tensor);  // 0, or -1 with a Python error
  void* current_stream;
};

const ExchangeApi& exchange_api() {
  static const ExchangeApi* const api = [] {
    const nb::object type = nb::module_::import_("torch").attr("Tensor");
    constexpr const char* kName = "__dlpack_c_exchange_api__";
    if (!nb::hasattr(type, kName)) throw std::runtime_error("rewardhead.torch needs PyTorch 2.13 or later");
    const nb::object capsule = type.attr(kName);
    const auto* found = static_cast<const ExchangeApi*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
    if (!found) throw nb::python_error();
    if (found->header.major != 1 || !found->view_of_object) {
      throw std::runtime_error("this PyTorch's tensors have no views of DLPack 1");
    }
    return found;
  }();
  return *api;
}

}  // namespace

Tensor::Tensor(nb::handle object) {
  if (exchange_api().view_of_object(object.ptr(), &view_) != 0) throw nb::python_error();
  view_.data = static_cast<char*>(view_.data) + view_.byte_offset;
}

int64_t Tensor::count() const {
  int64_t count = 1;
  for (int dim = 0; dim < dims(); ++dim) count *= size(dim);
  return count;
}

bool Tensor::is_contiguous() const {
  int64_t expected = 1;
  for (int dim = dims() - 1; dim >= 0; --dim) {
    if (size(dim) == 0) return true;
    if (size(dim) != 1 && stride(dim) != expected) return false;
    expected *= size(dim);
  }
  return true;
}

bool Tensor::is_beside(const Tensor& other) const {
  return view_.device_type == other.view_.device_type && view_.device == other.view_.device;
}

}  // namespace rewardhead::python

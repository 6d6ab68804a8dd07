// SPDX-License-Identifier: Apache-2.0
#include "host/python/bindings/tensor.h"

#include <memory>
#include <stdexcept>
#include <vector>

namespace nb = nanobind;

namespace rewardhead::python {
namespace {

// DLManagedTensorVersioned of DLPack 1.3.
struct ManagedTensor {
  uint32_t major, minor;
  void* context;
  void (*release)(ManagedTensor*);
  uint64_t flags;
  TensorView view;
};

// DLPackExchangeAPI of DLPack 1.3.
struct ExchangeApi {
  struct {
    uint32_t major, minor;
    void* previous;
  } header;
  void* allocate;
  void* from_object;
  int (*to_object)(ManagedTensor* tensor, void** object);   // 0, and the tensor is taken; or -1 with a Python error
  int (*view_of_object)(void* object, TensorView* tensor);  // 0, or -1 with a Python error
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

// What keeps the memory of a tensor, and what DLPack points to.
struct Owner {
  ~Owner() { release(managed.view.data); }
  ManagedTensor managed;
  void (*release)(void*) noexcept;
  std::vector<int64_t> sizes = {}, strides = {};
};

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

nb::object tensor_like(const Tensor& shape, void* memory, void (*release)(void*) noexcept) {
  auto owner = std::unique_ptr<Owner>(new Owner{{}, release});
  ManagedTensor& managed = owner->managed;
  managed = {.major = 1,
             .minor = 0,
             .context = owner.get(),
             .release = [](ManagedTensor* tensor) { delete static_cast<Owner*>(tensor->context); },
             .flags = 0,
             .view = {memory, kCpu, 0, shape.dims(), kFloat, 32, 1, nullptr, nullptr, 0}};
  int64_t stride = 1;
  for (int dim = shape.dims() - 1; dim >= 0; --dim) {
    owner->sizes.insert(owner->sizes.begin(), shape.size(dim));
    owner->strides.insert(owner->strides.begin(), stride);
    stride *= shape.size(dim);
  }
  managed.view.sizes = owner->sizes.data();
  managed.view.strides = owner->strides.data();
  void* object = nullptr;
  if (exchange_api().to_object(&managed, &object) != 0) throw nb::python_error();
  owner.release();
  return nb::steal(static_cast<PyObject*>(object));
}

}  // namespace rewardhead::python

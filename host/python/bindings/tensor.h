// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>

namespace rewardhead::python {

// DLPack's numbers.
constexpr uint8_t kFloat = 2, kBfloat = 4;
constexpr int32_t kCpu = 1;

// DLTensor of DLPack 1.3.
struct TensorView {
  void* data;
  int32_t device_type, device;
  int32_t dims;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t* sizes;
  int64_t* strides;
  uint64_t byte_offset;
};

// What kernels need to know of a tensor of PyTorch; valid as long as Python holds the tensor. It is read through the
// table of C functions that the type offers for that (DLPack 1.3, DLPackExchangeAPI): to ask Python for types, places,
// shapes and addresses of a head's five tensors took a quarter of a call that scores a row. The GIL is held.
class Tensor {
 public:
  explicit Tensor(nanobind::handle object);

  void* data() const { return view_.data; }
  int dims() const { return view_.dims; }
  int64_t size(int dim) const { return view_.sizes[dim]; }
  int64_t stride(int dim) const { return view_.strides[dim]; }
  int64_t count() const;  // of elements
  bool is_contiguous() const;
  bool is_f32() const { return is(kFloat, 32); }
  bool is_f16() const { return is(kFloat, 16); }
  bool is_bf16() const { return is(kBfloat, 16); }
  bool is_beside(const Tensor& other) const;  // on the same device

 private:
  bool is(int code, int bits) const { return view_.code == code && view_.bits == bits && view_.lanes == 1; }

  TensorView view_;
};

// A new tensor of PyTorch, float32, contiguous and of that shape, on memory of the CPU. When nothing uses the memory
// any more, `release` is called with it, by any thread, with or without the GIL; also if this throws. The GIL is held.
nanobind::object tensor_like(const Tensor& shape, void* memory, void (*release)(void*) noexcept);

}  // namespace rewardhead::python

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>

namespace rewardhead::python {

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
  bool is_f32() const { return is(2, 32); }
  bool is_f16() const { return is(2, 16); }
  bool is_bf16() const { return is(4, 16); }
  bool is_beside(const Tensor& other) const;  // on the same device

 private:
  bool is(int code, int bits) const { return view_.code == code && view_.bits == bits && view_.lanes == 1; }

  // DLTensor of DLPack 1.3, whose numbers these are too: 2 is IEEE floating point, 4 bfloat16.
  struct View {
    void* data;
    int32_t device_type, device;
    int32_t dims;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t* sizes;
    int64_t* strides;
    uint64_t byte_offset;
  };
  View view_;
};

}  // namespace rewardhead::python

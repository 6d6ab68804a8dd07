// SPDX-License-Identifier: Apache-2.0
//
// The contract between the host runtime and the kernels: argument structs, and one table of function pointers per
// implementation. A kernel allocates nothing, starts no thread, chooses no implementation and reports no error: the
// runtime has validated every argument, brings the workspace, and lends an executor to spread independent tasks over.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rewardhead::kernels {

enum class Dtype { f32, f16, bf16 };  // the values of rh_dtype

// Runs task(context, i, worker) once for each i in [0, tasks), in any order and on any worker in [0, threads), and
// returns when all are done. A worker runs one task at a time, so scratch memory can be kept per worker.
struct Executor {
  using Task = void (*)(const void* context, int64_t index, int worker);
  int threads;
  void* self;
  void (*run)(void* self, int64_t tasks, Task task, const void* context);

  template <class Body>
  void for_each(int64_t tasks, const Body& body) const {
    run(
        self, tasks,
        [](const void* context, int64_t index, int worker) { (*static_cast<const Body*>(context))(index, worker); },
        &body);
  }
};

// Row-major X [rows, columns].
struct Matrix {
  const void* data;
  Dtype dtype;
  int64_t rows;
  int64_t columns;
  int64_t stride;  // elements from one row to the next
};

// Parameters of a head or gradients of them; hidden 0 is the linear head, which has w1 [input] only.
template <class Float>
struct HeadTensors {
  Float* w1;  // [hidden, input]
  Float* b1;  // [hidden]
  Float* w2;  // [hidden]
  Float* b2;  // [1]

  // Of an ensemble, whose tensors have a leading dimension.
  HeadTensors member(int64_t index, int64_t hidden, int64_t input) const {
    if (hidden == 0) return {w1 + index * input, b1, w2, b2};
    return {w1 + index * hidden * input, b1 + index * hidden, w2 + index * hidden, b2 + index};
  }
};

// The activation mask: bit i of words[block * hidden + h] says that hidden unit h is active in row 64 * block + i,
// that is !(z <= 0). Bits of rows past the last are 0.
inline constexpr int64_t kMaskRows = 64;
inline constexpr int64_t mask_blocks(int64_t rows) { return (rows + kMaskRows - 1) / kMaskRows; }

// A plan keeps the activations relu(z) beside the mask where their few rows cost less than reading W1 once more would:
// dw2 is then the sum of dr relu(z) (kernels/README.md: measured). For each block of rows and hidden unit there are as
// many of them as the fullest block of a plan has rows, up to a cache line; what belongs to no row is never read.
inline constexpr bool keeps_activations(int64_t plan_rows, int64_t input) { return 6 * plan_rows <= input; }
inline constexpr int64_t activation_rows(int64_t plan_rows) {
  return plan_rows < kMaskRows ? (plan_rows + 15) / 16 * 16 : kMaskRows;
}

// `members` heads over one X, an ensemble: each tensor, the rewards and their gradient have a leading dimension of it,
// and the mask's words are [mask_blocks(rows), members, hidden]. On the CPU 1 for the linear head.
struct ForwardArguments {
  Matrix x;
  int64_t hidden;
  HeadTensors<const float> head;
  float* rewards;  // [members, rows]
  uint64_t* mask;  // [mask_blocks(rows), members, hidden]; null when only scoring, and for the linear head
  int64_t members = 1;
  // The most rows of any call whose rewards must agree with this one's bit for bit: few are summed in another order.
  int64_t plan_rows = kMaskRows;
  float* activations = nullptr;  // [mask_blocks(rows), members, hidden, activation_rows(plan_rows)], or null
};

struct BackwardArguments {
  Matrix x;
  int64_t hidden;
  HeadTensors<const float> head;
  const uint64_t* mask;          // as the forward wrote it
  const float* reward_gradient;  // [members, rows]
  HeadTensors<float> gradient;
  float* input_gradient;  // [rows, input] with its own stride, or null; the sum over members
  int64_t input_gradient_stride;
  int64_t members = 1;
  int64_t plan_rows = kMaskRows;       // as for the forward
  const float* activations = nullptr;  // as the forward wrote them, or null
};

// `members` heads over the same pairs: rewards, weight, loss and reward_gradient have a leading dimension of it. On the
// CPU 1.
struct PairLossArguments {
  const float* rewards;  // [rows]
  int64_t rows;
  int64_t pairs;
  const int32_t* chosen;  // null together with rejected: pair i is (2i, 2i+1)
  const int32_t* rejected;
  const float* margin;  // null: 0
  const float* weight;  // null: 1
  const float* label;   // null: 1
  double normalizer;
  float* loss;             // [1]
  float* reward_gradient;  // [rows] or null
  int64_t members = 1;
};

struct AdamwArguments {
  int64_t count;
  float* parameter;
  const float* gradient;
  float* first_moment;
  float* second_moment;
  double learning_rate, beta1, beta2, epsilon, weight_decay;
  double gradient_scale;  // 1, or less where the global norm is clipped
  int64_t step;           // from 1
};

// The sizes that a workspace depends on; each is the largest of any call.
struct Shape {
  int64_t rows;
  int64_t input;
  int64_t hidden;
  int64_t pairs;
  bool input_gradient;
  int64_t members = 1;
};

inline constexpr size_t kAlignment = 64;  // of workspaces and of every piece carved from one

struct KernelTable {
  const char* name;

  size_t (*forward_workspace)(const Shape&, int threads);
  void (*forward)(const ForwardArguments&, const Executor&, void* workspace);

  size_t (*pair_loss_workspace)(const Shape&, int threads);
  void (*pair_loss)(const PairLossArguments&, const Executor&, void* workspace);

  size_t (*backward_workspace)(const Shape&, int threads);
  void (*backward)(const BackwardArguments&, const Executor&, void* workspace);

  // The three above of a linear head whose pairs are rows (2i, 2i+1), in one pass over many rows: the arguments of all three as
  // for one call after another, and the same bits.
  size_t (*linear_step_workspace)(const Shape&, int threads);
  void (*linear_step)(const ForwardArguments&, const PairLossArguments&, const BackwardArguments&, const Executor&,
                      void* workspace);

  // Sum of squares of a gradient tensor (global-norm clipping), in an order that depends on `count` alone.
  size_t (*sum_of_squares_workspace)(int64_t count);
  double (*sum_of_squares)(const float* values, int64_t count, const Executor&, void* workspace);

  void (*adamw)(const AdamwArguments&, const Executor&);
};

const KernelTable& reference_table();
const KernelTable& portable_table();
const KernelTable& avx2_table();    // needs AVX2, FMA, F16C, BMI2; only where the compiler targets x86-64
const KernelTable& avx512_table();  // needs AVX-512 F, BW, DQ, VL and what avx2 needs; likewise

}  // namespace rewardhead::kernels

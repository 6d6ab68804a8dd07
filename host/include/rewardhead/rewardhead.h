/* SPDX-License-Identifier: Apache-2.0
 *
 * rewardhead: fused kernels for reward heads and the pairwise Bradley-Terry loss. This C99 header is the contract;
 * rewardhead.hpp wraps it for C++.
 *
 *   MLP head      r = w2 . relu(W1 x + b1) + b2        W1 [hidden, input] as in torch.nn.Linear
 *   linear head   r = w . x                            hidden_dim 0; w is stored in w1, the other tensors are NULL
 *   pair p        d = r[chosen] - r[rejected] - margin
 *   loss          sum_p weight (label softplus(-d) + (1 - label) softplus(d)) / normalizer
 *                 (Bradley and Terry, Biometrika 39, 1952, equation for two items, as a log-likelihood)
 *
 * Order of calls: rh_context_create, rh_plan_create, rh_plan_workspace_bytes, then any number of executes (rh_forward,
 * rh_pair_loss, rh_backward, rh_adamw, rh_loss_gradients, rh_train_step). A plan is immutable and may be shared by
 * threads; each concurrent execute brings its own workspace. An execute neither allocates, locks, prints nor aborts.
 *
 * Memory: every buffer belongs to the caller, needs the alignment of its element only (the workspace: RH_ALIGNMENT),
 * and must not overlap another one of the same call unless it says so. Matrices are row-major.
 *
 * NVIDIA GPUs (contexts with RH_DEVICE_CUDA; no GPU has run this yet): every buffer that an execute reads or writes,
 * the workspace too, is device memory; structs are read in the call. An execute enqueues kernels on the context's stream
 * and returns: it neither waits nor reads anything back, so it can be captured in a graph, which keeps pointers and the
 * optimizer's step. What lies on the device is not checked: a pair that names a row outside [0, rows), or one row
 * twice, counts as absent (rh_bad_pairs), and margins, weights and labels are used as they are. Products of an MLP head
 * take operands as two bfloat16: their error is at most 3 2^-16 of the sum of magnitudes. Results are the same bits for
 * plans of the same choices (rh_plan_export) on the same kind of GPU; with "cublaslt" for calls of the same number of
 * rows whose dW1 and dX are alike aligned to 16 bytes or not. Without RH_PLAN_MEASURE the same options choose the same,
 * as long as the same implementations work. Host memory given to a GPU's plan is refused, pinned memory as well, and
 * device memory given to a CPU's plan, once the process has had a context with RH_DEVICE_CUDA (before, CUDA is not
 * asked).
 *
 * Errors: no call exits or throws. What fails returns a status, writes none of its outputs, and leaves a sentence for
 * rh_last_error_message() on the calling thread.
 *
 * Results are bitwise the same from run to run and for any number of threads on one build and instruction set, and
 * within a plan the reward of a row does not depend on the rows scored with it. Across instruction sets, and between
 * plans for few rows (at most 4 to 16, by instruction set) and for many, an MLP head's rewards, and what follows from
 * them, differ by rounding; so does the gradient of w2 between plans for at most input / 6 rows and for more.
 */
#ifndef REWARDHEAD_REWARDHEAD_H
#define REWARDHEAD_REWARDHEAD_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#error "rewardhead runs on Linux; Windows is not supported"
#endif
#define RH_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

#define RH_ALIGNMENT 64       /* bytes, of a workspace */
#define RH_CUDA_ALIGNMENT 256 /* bytes, of a workspace on a GPU, as cudaMalloc aligns */

typedef enum rh_status {
  RH_OK = 0,
  RH_INVALID_ARGUMENT = 1, /* a value, shape, pointer or size that the call cannot accept */
  RH_UNSUPPORTED = 2,      /* valid, but this build or machine cannot do it (no such device or instruction set) */
  RH_OUT_OF_MEMORY = 3,    /* creating a context or plan found no memory or threads */
  RH_INTERNAL_ERROR = 4,   /* a defect of the library; please report it */
  RH_DEVICE_ERROR = 5      /* CUDA refused a call, or work before it failed; outputs may be partly written */
} rh_status;

typedef enum rh_dtype { RH_F32 = 0, RH_F16 = 1, RH_BF16 = 2 } rh_dtype; /* IEEE binary32, binary16, bfloat16 */
typedef enum rh_device { RH_DEVICE_AUTO = 0, RH_DEVICE_CPU = 1, RH_DEVICE_CUDA = 2 } rh_device;
typedef enum rh_objective { RH_BRADLEY_TERRY = 0 } rh_objective;

typedef struct rh_context rh_context; /* instruction set and threads, or a GPU and a stream */
typedef struct rh_plan rh_plan;       /* validated shapes on a context */

RH_API const char* rh_version(void);                   /* "major.minor.patch" */
RH_API const char* rh_status_string(rh_status status); /* a few words; never NULL */
RH_API const char* rh_last_error_message(void);        /* of the last failed call on this thread; "" if none */

/* The names that users type, index by index; NULL past the last. A name's index is its enum value. */
RH_API const char* rh_dtype_name(int index);     /* "f32", "f16", "bf16" */
RH_API const char* rh_device_name(int index);    /* "auto", "cpu", "cuda" */
RH_API const char* rh_objective_name(int index); /* "bradley-terry" */
RH_API const char* rh_isa_name(int index);       /* "auto", then best first: "avx512", "avx2", "portable", ... */

/* ---- context ---------------------------------------------------------------------------------------------------- */

/* The caller's own threads. run(self, tasks, task, context) calls task(context, i, worker) once for each i in
 * [0, tasks), in any order, on any worker in [0, threads) that runs no other task meanwhile, and returns when all are
 * done. It may be called by several threads at once if executes are. Small work is done without calling it. */
typedef void (*rh_task)(const void* context, int64_t index, int worker);
typedef struct rh_executor {
  int threads; /* 1..1024 */
  void* self;
  void (*run)(void* self, int64_t tasks, rh_task task, const void* context);
} rh_executor;

typedef struct rh_context_options {
  size_t struct_size; /* sizeof(rh_context_options) */
  rh_device device;   /* RH_DEVICE_AUTO is the CPU. RH_DEVICE_CUDA is the calling thread's current CUDA device, which
                         needs compute capability 8.0 or later; where there is none: RH_UNSUPPORTED */
  const char* isa;    /* a name of rh_isa_name; NULL: the environment's REWARDHEAD_ISA, else "auto". With
                         RH_DEVICE_CUDA: "auto", "sm90a", "sm80", "cublaslt" (MLP heads by products of cuBLASLt, whose
                         library is looked for when a plan is made), or NULL for "auto" */
  int threads;        /* 1..1024; 0: what the affinity mask and the cgroup's CPU quota allow. A GPU's context has 1 */
  const rh_executor* executor; /* copied; NULL: the context starts threads of its own. With one, `threads` is 0 */
  void* stream; /* RH_DEVICE_CUDA: a cudaStream_t of the device, for every execute; NULL is CUDA's default stream, which
                   cannot be captured. For another stream make another context: it is small. On the CPU: NULL */
} rh_context_options;

/* Starts the worker threads. `options` NULL means all defaults. The context must outlive its plans.
 * An execute that finds the workers busy with another execute, or that would be done before they are awake, does all
 * work on the calling thread. */
RH_API rh_status rh_context_create(const rh_context_options* options, rh_context** context);
RH_API void rh_context_destroy(rh_context* context);           /* NULL is allowed */
RH_API int rh_context_threads(const rh_context* context);      /* 0 for NULL */
RH_API const char* rh_context_isa(const rh_context* context);  /* the implementation in use; "" for NULL. On a GPU the
                                                                  best of which nothing bad is known */
RH_API rh_device rh_context_device(const rh_context* context); /* never RH_DEVICE_AUTO except for NULL */

/* One row of the dispatch list: an implementation of an operation, best first, and whether this context uses it. */
typedef struct rh_kernel_info {
  size_t struct_size;         /* sizeof(rh_kernel_info), set by the caller */
  const char* operation;      /* "forward", "pair_loss", "backward", "adamw", ... */
  const char* implementation; /* a name of rh_isa_name; on a GPU "sm90a", "sm80" or "cublaslt" */
  int chosen;                 /* 1: this context uses it for this operation */
  const char* reason;         /* why it is chosen, or why not; owned by the context */
} rh_kernel_info;
RH_API int rh_context_kernel_count(const rh_context* context);
RH_API rh_status rh_context_kernel(const rh_context* context, int index, rh_kernel_info* info);

/* ---- plan ------------------------------------------------------------------------------------------------------- */

/* What a plan may execute; the workspace holds no more than these need. */
enum {
  RH_FORWARD = 1 << 0,
  RH_PAIR_LOSS = 1 << 1,
  RH_BACKWARD = 1 << 2,       /* implies RH_FORWARD, whose mask it reads */
  RH_INPUT_GRADIENT = 1 << 3, /* dX; implies RH_BACKWARD */
  RH_OPTIMIZER = 1 << 4,
  RH_TRAIN = RH_FORWARD | RH_PAIR_LOSS | RH_BACKWARD | RH_OPTIMIZER
};

/* How a GPU's plan chooses the implementation of an MLP head's products and how their sums are split. */
typedef enum rh_planning {
  RH_PLAN_MODEL = 0,  /* a cost model, from the shape and the GPU's number of multiprocessors */
  RH_PLAN_MEASURE = 1 /* times what works on this GPU for this shape and keeps the fastest. Takes a fraction of a
                         second (a prediction) and, while it does, device memory for X, a head and a workspace; nothing
                         else should be running. RH_UNSUPPORTED on the CPU, where there is nothing to choose */
} rh_planning;

typedef struct rh_plan_options {
  size_t struct_size;   /* sizeof(rh_plan_options); a program built before `planning` was added is served as well */
  uint32_t operations;  /* of the flags above, at least one */
  int64_t rows;         /* the largest number of rows of one execute, 1..2^31-1. A plan for at most 4 (portable), 8
                           (AVX2) or 16 (AVX-512) has a forward made for few rows: 2.5 times as fast for one on AVX2 */
  int64_t input_dim;    /* 1..2^24; ignored if only RH_PAIR_LOSS is asked for */
  int64_t hidden_dim;   /* 0 (linear head) .. 2^24; ignored likewise */
  rh_dtype input_dtype; /* of X; rewards, parameters and gradients are float */
  int64_t max_pairs;    /* the largest number of pairs of one execute, 1..2^40 (on a GPU 2^31-1); ignored without
                           RH_PAIR_LOSS */
  rh_objective objective;
  int64_t members; /* heads over the same X and pairs, an ensemble, 1..2^16; 0: 1 */
  rh_planning planning;
  const char* choices; /* on a GPU: a text of rh_plan_export, for the same options and kind of GPU; `planning` is then
                          not looked at. NULL: none */
} rh_plan_options;

/* With more than one member every tensor of rh_tensors, rewards, reward_gradient, the pairs' weight, loss and
 * gradient_norm have a leading dimension [members]: w1 is [members, hidden, input], rewards [members, rows], loss
 * [members]. Members train as they would alone, each with its own weights, clipped by its own norm; dX is the sum over
 * members (MLP heads only: RH_UNSUPPORTED for several linear ones). */

/* On a GPU, the first plan of a context to want an implementation has it solve small problems and compares with the
 * CPU: this allocates and frees device memory, waits for its own stream, and fails while the thread captures a graph.
 * What computes wrongly is used no more (rh_context_kernel says why) and the next in the list takes over;
 * RH_UNSUPPORTED where the context's `isa` named it, or none is left. After a kernel that faults, say with an illegal
 * address, CUDA can do nothing more in this process: RH_DEVICE_ERROR, then and for the context's later plans, naming
 * the implementation; another `isa` in a new process may do without. */
RH_API rh_status rh_plan_create(const rh_context* context, const rh_plan_options* options, rh_plan** plan);
RH_API void rh_plan_destroy(rh_plan* plan); /* NULL is allowed */
/* What a GPU's plan has chosen, and for what, as one line of key=value: a plan made with it as `choices` gives the same
 * bits, without measuring. Writes at most *bytes of it to `text` and sets *bytes to the size with the final zero; where
 * that is more than there was room for: RH_INVALID_ARGUMENT. `text` may be NULL to ask for the size. RH_UNSUPPORTED for
 * plans of the CPU. */
RH_API rh_status rh_plan_export(const rh_plan* plan, char* text, size_t* bytes);
/* Bytes of one workspace (a multiple of RH_ALIGNMENT), on a GPU of device memory; 0 for NULL. */
RH_API size_t rh_plan_workspace_bytes(const rh_plan* plan);
/* What rh_forward leaves of the activations for rh_backward lies in the workspace at [offset, offset + bytes). Who
 * does not keep the workspace until then copies those bytes out, and later into a workspace of a plan of the same
 * context with the same rows, input_dim, hidden_dim, input_dtype and members, whose other operations may differ. On
 * the CPU it is a mask, of 8 bytes for each member, hidden unit and 64 rows or less; where 6 rows <= input_dim, four
 * bytes each come to it, for a number of rows that is a multiple of 16, beyond 64 of 64. On a GPU it takes at most 4
 * members * rows * hidden_dim bytes, rows and hidden_dim rounded up to multiples of 256. Both are 0 for a linear
 * head, for a plan without RH_BACKWARD, and for NULL. */
RH_API size_t rh_plan_mask_bytes(const rh_plan* plan);
RH_API size_t rh_plan_mask_offset(const rh_plan* plan);

/* ---- execute ---------------------------------------------------------------------------------------------------- */

typedef struct rh_matrix {
  const void* data;   /* rows x input_dim elements of the plan's input_dtype */
  int64_t rows;       /* 1 .. the plan's rows */
  int64_t row_stride; /* elements from one row to the next, >= input_dim */
} rh_matrix;

/* The tensors of a head: its parameters, their gradients, or one of AdamW's moments. Linear head: only w1 [input]. */
typedef struct rh_tensors {
  float* w1; /* [hidden, input], contiguous */
  float* b1; /* [hidden] */
  float* w2; /* [hidden] */
  float* b2; /* [1] */
} rh_tensors;

/* Comparisons between scored rows, any number of them for each row. */
typedef struct rh_pairs {
  int64_t count;           /* 1 .. the plan's max_pairs */
  const int32_t* chosen;   /* [count] row of the preferred response; NULL with rejected: pair i is (2i, 2i+1) */
  const int32_t* rejected; /* [count] row of the other response; must differ from chosen */
  const float* margin;     /* [count], finite; NULL: 0 */
  const float* weight;     /* [count] or [members, count], finite and >= 0; NULL: 1 */
  const float* label;      /* [count], probability in [0, 1] that chosen wins; NULL: 1 */
} rh_pairs;

typedef struct rh_workspace {
  void* data;   /* aligned to RH_ALIGNMENT, on a GPU to RH_CUDA_ALIGNMENT; contents need not be initialised */
  size_t bytes; /* >= rh_plan_workspace_bytes */
} rh_workspace;

/* rewards[i] = head(X[i]), i < x->rows. With RH_BACKWARD in the plan what rh_backward needs of the activations (a bit
 * each; on the CPU, in a plan for at most input / 6 rows, their values as well) stays in the workspace; other
 * executes of the same plan leave it there. */
RH_API rh_status rh_forward(const rh_plan* plan, const rh_matrix* x, const rh_tensors* parameters, float* rewards,
                            rh_workspace workspace);

/* loss[0] and, unless NULL, reward_gradient[i] = dL/dr[i] for i < rows (0 for a row in no pair). `normalizer` is 1e-30
 * to 1e30, or 0 for the number of pairs, bad ones included. `rewards` may come from anywhere. On the CPU a bad pair is
 * refused before anything is written. */
RH_API rh_status rh_pair_loss(const rh_plan* plan, const float* rewards, int64_t rows, const rh_pairs* pairs,
                              double normalizer, float* loss, float* reward_gradient, rh_workspace workspace);

/* *found = 1 if the last rh_pair_loss, rh_loss_gradients or rh_train_step in this workspace met a bad pair on a GPU,
 * else 0. Waits for the context's stream, which no execute does. Before any of the three, *found means nothing. */
RH_API rh_status rh_bad_pairs(const rh_plan* plan, rh_workspace workspace, int* found);

/* Gradients of every parameter, overwritten, and dX [rows, input] unless `input_gradient` is NULL. Reads what
 * rh_forward left in this workspace for the same X and parameters. */
RH_API rh_status rh_backward(const rh_plan* plan, const rh_matrix* x, const rh_tensors* parameters,
                             const float* reward_gradient, const rh_tensors* gradients, float* input_gradient,
                             int64_t input_gradient_stride, rh_workspace workspace);

/* AdamW (Loshchilov and Hutter, ICLR 2019, algorithm 2) as torch.optim.AdamW computes it; decay acts on all tensors. */
typedef struct rh_adamw_options {
  size_t struct_size;   /* sizeof(rh_adamw_options) */
  double learning_rate; /* >= 0 */
  double beta1, beta2;  /* [0, 1) */
  double epsilon;       /* >= 1e-30, so that it is not 0 in fp32 */
  double weight_decay;  /* >= 0 */
  double clip_norm;     /* > 0: gradients are scaled to at most this global 2-norm; 0: never */
  int64_t step;         /* 1 for the first */
} rh_adamw_options;

/* Updates parameters and both moments in place (moments are zero before step 1; the gradients are only read).
 * gradient_norm[0], unless NULL, gets the global 2-norm before clipping. A non-finite norm is written to the moments
 * and parameters like any other value. */
RH_API rh_status rh_adamw(const rh_plan* plan, const rh_adamw_options* options, const rh_tensors* parameters,
                          const rh_tensors* gradients, const rh_tensors* first_moments,
                          const rh_tensors* second_moments, float* gradient_norm, rh_workspace workspace);

/* Forward, loss and backward in one call; the same bits as the three on their own. Where pair i is (2i, 2i+1), the
 * linear head reads X once for all of it (up to 16 rows: twice). The plan needs RH_PAIR_LOSS and RH_BACKWARD. */
typedef struct rh_loss_arguments {
  size_t struct_size; /* sizeof(rh_loss_arguments) */
  rh_matrix x;
  rh_pairs pairs;
  double normalizer; /* as in rh_pair_loss */
  rh_tensors parameters, gradients;
  float* rewards;                /* [x.rows] */
  float* reward_gradient;        /* [x.rows] */
  float* loss;                   /* [1] */
  float* input_gradient;         /* [x.rows, input] or NULL, as in rh_backward */
  int64_t input_gradient_stride; /* elements; ignored without input_gradient */
} rh_loss_arguments;
RH_API rh_status rh_loss_gradients(const rh_plan* plan, const rh_loss_arguments* arguments, rh_workspace workspace);

/* The above and AdamW in one call; the same bits as the calls on their own. The plan needs RH_TRAIN.
 * `gradients` and `rewards` [x->rows] receive what the separate calls would write; gradient_norm may be NULL. */
typedef struct rh_train_arguments {
  size_t struct_size; /* sizeof(rh_train_arguments) */
  rh_matrix x;
  rh_pairs pairs;
  double normalizer; /* as in rh_pair_loss */
  rh_adamw_options optimizer;
  rh_tensors parameters, gradients, first_moments, second_moments;
  float* rewards;         /* [x.rows] */
  float* reward_gradient; /* [x.rows] */
  float* loss;            /* [1], before the update */
  float* gradient_norm;   /* [1] or NULL */
} rh_train_arguments;
RH_API rh_status rh_train_step(const rh_plan* plan, const rh_train_arguments* arguments, rh_workspace workspace);

#ifdef __cplusplus
}
#endif
#endif /* REWARDHEAD_REWARDHEAD_H */

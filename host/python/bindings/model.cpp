// SPDX-License-Identifier: Apache-2.0
#include "host/training/model.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "host/dataset/error.h"
#include "host/dataset/split.h"
#include "host/evaluation/score.h"
#include "host/python/bindings/array.h"
#include "host/python/bindings/bindings.h"
#include "host/python/bindings/machine.h"
#include "host/training/trainer.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace rewardhead::python {
namespace {

using Matrix = nb::ndarray<nb::ro, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
template <class T>
using Vector = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using FloatVector = std::optional<Vector<float>>;

rh_dtype dtype_of(const Matrix& x) {
  if (x.dtype() == nb::dtype<float>()) return RH_F32;
  if (x.dtype().bits == 16 && x.dtype().lanes == 1) {
    if (x.dtype().code == static_cast<uint8_t>(nb::dlpack::dtype_code::Float)) return RH_F16;
    if (x.dtype().code == static_cast<uint8_t>(nb::dlpack::dtype_code::Bfloat)) return RH_BF16;
  }
  throw nb::type_error("the matrix has another element type; expected float32, float16 or bfloat16");
}

dataset::Embeddings view(const char* name, const Matrix& x) {
  return dataset::Embeddings::view(name, x.data(), static_cast<int64_t>(x.shape(0)), static_cast<int64_t>(x.shape(1)),
                                   dtype_of(x));
}

template <class T>
std::vector<T> copy(const Vector<T>& from) {
  return {from.data(), from.data() + from.size()};
}

template <class T>
std::vector<T> copy(const std::optional<Vector<T>>& from) {
  return from ? copy(*from) : std::vector<T>{};
}

template <class Names>
size_t index_of(const char* what, const Names& names, std::string_view name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found != names.end()) return static_cast<size_t>(found - names.begin());
  std::string message = std::string(what) + " is '" + std::string(name) + "'; expected";
  for (const char* valid : names) message += std::string(" ") + valid;
  throw InputError(message);
}

nb::dict as_dict(const training::EpochRecord& record) {
  nb::dict entry;
  entry["epoch"] = record.epoch;
  entry["step"] = record.step;
  entry["learning_rate"] = record.learning_rate;
  entry["gradient_norm"] = record.gradient_norm;
  entry["loss"] = record.loss;
  return entry;
}

// As `rewardhead train` with nothing held out: the head for raw embeddings, and a dict an epoch. Ctrl-C ends it.
nb::tuple train(const Matrix& embeddings, const Vector<int32_t>& chosen, const Vector<int32_t>& rejected,
                const FloatVector& margin, const FloatVector& weight, const FloatVector& label, int64_t hidden,
                int64_t epochs, int64_t batch_pairs, double learning_rate, double weight_decay, double clip_norm,
                const std::string& schedule, int64_t warmup, const std::string& init, uint64_t seed, bool standardize,
                int threads) {
  training::TrainOptions options{.hidden = hidden, .epochs = epochs, .batch_pairs = batch_pairs};
  options.optimizer.learning_rate = learning_rate;
  options.optimizer.weight_decay = weight_decay;
  options.optimizer.clip_norm = clip_norm;
  options.schedule = static_cast<training::Schedule>(index_of("schedule", training::kScheduleNames, schedule));
  options.warmup = warmup;
  options.init = static_cast<training::Init>(index_of("init", training::kInitNames, init));
  options.seed = seed;
  options.standardize = standardize;

  dataset::Split split;
  split.train = {.file = "pairs",
                 .chosen = copy(chosen),
                 .rejected = copy(rejected),
                 .margin = copy(margin),
                 .weight = copy(weight),
                 .label = copy(label)};
  std::optional<dataset::Embeddings> rows;
  std::optional<training::Trainer> trainer;
  nb::list history;
  {
    nb::gil_scoped_release released;
    rows.emplace(view("embeddings", embeddings));
    trainer.emplace(context(threads), *rows, split, options);
  }
  while (!trainer->finished()) {
    training::EpochRecord record;
    {
      nb::gil_scoped_release released;
      record = trainer->run_epoch();
    }
    history.append(as_dict(record));
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
  }
  return nb::make_tuple(trainer->model(), history);
}

nb::object score(const Head& head, const Matrix& x, int threads) {
  if (static_cast<int64_t>(x.shape(1)) != head.input()) {
    throw InputError("x has " + std::to_string(x.shape(1)) + " columns; expected " + std::to_string(head.input()) +
                     ", the model's input_dim");
  }
  std::vector<float> rewards;
  {
    nb::gil_scoped_release released;
    const dataset::Embeddings rows = view("x", x);
    rewards = evaluation::Scorer(context(threads), rows, head.hidden()).score_all(head);
  }
  return as_array(std::move(rewards));
}

using Tensor = nb::ndarray<nb::numpy, float, nb::c_contig>;

}  // namespace

void bind_model(nb::module_& module) {
  const auto released = nb::call_guard<nb::gil_scoped_release>();
  nb::class_<Head>(module, "Head", "The parameters of a head; w1, b1, w2 and b2 are views of its memory.")
      .def(nb::init<int64_t, int64_t>(), "input"_a, "hidden"_a, "All zero. hidden 0: the linear head, w1 [input].")
      .def_prop_ro("input", &Head::input, "Columns of the embeddings that it scores.")
      .def_prop_ro("hidden", &Head::hidden, "Hidden units; 0: the linear head.")
      .def_prop_ro(
          "w1",
          [](Head& head) {
            const std::array<size_t, 2> shape{static_cast<size_t>(head.hidden()), static_cast<size_t>(head.input())};
            return head.linear() ? Tensor(head.w1().data(), 1, &shape[1]) : Tensor(head.w1().data(), 2, shape.data());
          },
          nb::rv_policy::reference_internal, "[hidden, input] fp32; of the linear head [input]")
      .def_prop_ro(
          "b1", [](Head& head) { return Tensor(head.b1().data(), {head.b1().size()}); },
          nb::rv_policy::reference_internal, "[hidden] fp32")
      .def_prop_ro(
          "w2", [](Head& head) { return Tensor(head.w2().data(), {head.w2().size()}); },
          nb::rv_policy::reference_internal, "[hidden] fp32")
      .def_prop_ro(
          "b2", [](Head& head) { return Tensor(head.b2().data(), {head.b2().size()}); },
          nb::rv_policy::reference_internal, "[1] fp32; of the linear head [0], as b1 and w2")
      .def("__repr__",
           [](const Head& head) {
             return "Head(input=" + std::to_string(head.input()) + ", hidden=" + std::to_string(head.hidden()) + ")";
           })
      .def("__getstate__",
           [](const Head& head) {
             return nb::make_tuple(
                 head.input(), head.hidden(),
                 nb::bytes(reinterpret_cast<const char*>(head.values().data()), head.values().size_bytes()));
           })
      .def("__setstate__",
           [](Head& head, const std::tuple<int64_t, int64_t, nb::bytes>& state) {
             const auto& [input, hidden, bytes] = state;
             new (&head) Head(input, hidden);
             if (bytes.size() != head.values().size_bytes()) throw InputError("the pickle of a Head is damaged");
             std::memcpy(head.values().data(), bytes.c_str(), bytes.size());
           })
      .def_static(
          "load", [](const std::filesystem::path& file) { return training::load_model(file); }, "file"_a, released,
          "Reads the safetensors file that `rewardhead train` and save write.")
      .def(
          "save", [](const Head& head, const std::filesystem::path& file) { training::save_model(file, head); },
          "file"_a, released, "Writes beside the file and renames.")
      .def("score", &score, "x"_a, "threads"_a = 0,
           "Rewards [rows] fp32 of x [rows, input], fp32, fp16 or bf16, C-contiguous: an array, or anything with "
           "DLPack on the CPU.");
  module.def("train", &train, nb::kw_only(), "embeddings"_a, "chosen"_a, "rejected"_a, "margin"_a.none(),
             "weight"_a.none(), "label"_a.none(), "hidden"_a, "epochs"_a, "batch_pairs"_a, "learning_rate"_a,
             "weight_decay"_a, "clip_norm"_a, "schedule"_a, "warmup"_a, "init"_a, "seed"_a, "standardize"_a,
             "threads"_a);
}

}  // namespace rewardhead::python

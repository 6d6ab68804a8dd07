// SPDX-License-Identifier: Apache-2.0
//
// Contexts: what they choose, and what they refuse.
#include <map>
#include <set>
#include <thread>

#include "host/runtime/available_threads.h"
#include "tests/host/runtime/step.h"

namespace rewardhead::runtime::testing {
namespace {

rh_status create(const rh_context_options& options, Context& context) {
  rh_context* created = nullptr;
  const rh_status status = rh_context_create(&options, &created);
  EXPECT_EQ(created == nullptr, status != RH_OK);
  context.reset(created);
  return status;
}

void expect_message(const std::vector<std::string>& parts) {
  const std::string message = rh_last_error_message();
  for (const std::string& part : parts) EXPECT_NE(message.find(part), std::string::npos) << message << ": " << part;
}

// Sets REWARDHEAD_ISA for one test.
class Environment {
 public:
  explicit Environment(const char* isa) { setenv("REWARDHEAD_ISA", isa, 1); }
  ~Environment() { unsetenv("REWARDHEAD_ISA"); }
};

class ContextTest : public ::testing::Test {
 protected:
  void SetUp() override { unsetenv("REWARDHEAD_ISA"); }
};

TEST_F(ContextTest, Names) {
  EXPECT_STREQ(rh_dtype_name(RH_F32), "f32");
  EXPECT_STREQ(rh_dtype_name(RH_F16), "f16");
  EXPECT_STREQ(rh_dtype_name(RH_BF16), "bf16");
  EXPECT_STREQ(rh_device_name(RH_DEVICE_AUTO), "auto");
  EXPECT_STREQ(rh_device_name(RH_DEVICE_CPU), "cpu");
  EXPECT_STREQ(rh_device_name(RH_DEVICE_CUDA), "cuda");
  EXPECT_STREQ(rh_objective_name(RH_BRADLEY_TERRY), "bradley-terry");
  EXPECT_STREQ(rh_isa_name(0), "auto");
  for (const auto name : {rh_dtype_name, rh_device_name, rh_objective_name, rh_isa_name}) {
    EXPECT_EQ(name(-1), nullptr);
    int count = 0;
    while (name(count)) ++count;
    EXPECT_EQ(name(count + 1), nullptr);
    EXPECT_LT(count, 10);
  }
  std::vector<std::string> names;
  for (int i = 0; rh_isa_name(i); ++i) names.push_back(rh_isa_name(i));
#if defined(__x86_64__)
  EXPECT_EQ(names, (std::vector<std::string>{"auto", "avx512", "avx2", "portable", "reference"}));
#else
  EXPECT_EQ(names, (std::vector<std::string>{"auto", "portable", "reference"}));
#endif
  EXPECT_STRNE(rh_version(), "");
  std::set<std::string> sentences;
  for (int status = RH_OK; status <= RH_DEVICE_ERROR; ++status) {
    sentences.insert(rh_status_string(static_cast<rh_status>(status)));
  }
  EXPECT_EQ(sentences.size(), 6u);
  EXPECT_STRNE(rh_status_string(static_cast<rh_status>(7)), nullptr);
}

TEST_F(ContextTest, Defaults) {
  rh_context* created = nullptr;
  ASSERT_EQ(rh_context_create(nullptr, &created), RH_OK);
  const Context context(created);
  EXPECT_EQ(rh_context_threads(created), available_threads());
  EXPECT_EQ(rh_context_device(created), RH_DEVICE_CPU);
  EXPECT_STRNE(rh_context_isa(created), "auto");
  EXPECT_STRNE(rh_context_isa(created), "");
  EXPECT_EQ(rh_context_threads(nullptr), 0);
  EXPECT_STREQ(rh_context_isa(nullptr), "");
  EXPECT_EQ(rh_context_device(nullptr), RH_DEVICE_AUTO);
  EXPECT_EQ(rh_context_kernel_count(nullptr), 0);
  rh_context_destroy(nullptr);
}

TEST_F(ContextTest, RefusedOptions) {
  Context context;
  const rh_context_options good = {sizeof good, RH_DEVICE_AUTO, "portable", 1, nullptr, nullptr};
  rh_context_options bad = good;
  bad.struct_size = 3;
  EXPECT_EQ(create(bad, context), RH_INVALID_ARGUMENT);
  expect_message({"options->struct_size is 3", std::to_string(sizeof good)});
  bad = good;
  bad.threads = 1025;
  EXPECT_EQ(create(bad, context), RH_INVALID_ARGUMENT);
  expect_message({"threads is 1025", "0 to 1024"});
  bad.threads = -1;
  EXPECT_EQ(create(bad, context), RH_INVALID_ARGUMENT);
  expect_message({"threads is -1", "0 to 1024"});
  bad = good;
  for (const int device : {3, -1, 99}) {
    set_enum(bad.device, device);
    EXPECT_EQ(create(bad, context), RH_INVALID_ARGUMENT);
    expect_message({"device is " + std::to_string(device), "0 to 2"});
  }
  bad = good;
  bad.device = RH_DEVICE_CUDA;
  bad.isa = nullptr;
  if (const rh_status status = create(bad, context); status != RH_OK) {  // no GPU, or a build without its kernels
    EXPECT_EQ(status, RH_UNSUPPORTED);
    expect_message({"device is cuda: "});
  }
  const auto run = [](void*, int64_t, rh_task, const void*) {};
  const struct {
    rh_executor executor;
    int threads;
    std::vector<std::string> mentions;
  } executors[] = {{{0, nullptr, run}, 0, {"executor->threads is 0", "1 to 1024"}},
                   {{1025, nullptr, run}, 0, {"executor->threads is 1025", "1 to 1024"}},
                   {{2, nullptr, nullptr}, 0, {"executor->run is NULL"}},
                   {{2, nullptr, run}, 2, {"threads is 2", "with an executor it is 0"}}};
  for (const auto& [executor, threads, mentions] : executors) {
    bad = good;
    bad.executor = &executor;
    bad.threads = threads;
    EXPECT_EQ(create(bad, context), RH_INVALID_ARGUMENT);
    expect_message(mentions);
  }
  EXPECT_EQ(rh_context_create(&good, nullptr), RH_INVALID_ARGUMENT);
  expect_message({"context is NULL"});
}

TEST_F(ContextTest, UnknownInstructionSetsAreRefusedWithTheList) {
  Context context;
  for (const std::string& name : {std::string("sse9"), std::string(), std::string("AVX2"), std::string(2000, 'x')}) {
    EXPECT_EQ(create({sizeof(rh_context_options), RH_DEVICE_AUTO, name.c_str(), 1, nullptr, nullptr}, context),
              RH_INVALID_ARGUMENT);
    if (name.size() < 100) expect_message({"isa is \"" + name + "\"", "auto", "portable", "reference"});
  }
  const Environment environment("mmx");
  EXPECT_EQ(create({sizeof(rh_context_options), RH_DEVICE_AUTO, nullptr, 1, nullptr, nullptr}, context), RH_INVALID_ARGUMENT);
  expect_message({"REWARDHEAD_ISA", "\"mmx\"", "auto", "portable", "reference"});
}

TEST_F(ContextTest, EnvironmentChoosesWhereTheOptionsDoNot) {
  const Environment environment("reference");
  Context context;
  ASSERT_EQ(create({sizeof(rh_context_options), RH_DEVICE_AUTO, nullptr, 1, nullptr, nullptr}, context), RH_OK);
  EXPECT_STREQ(rh_context_isa(context.get()), "reference");
  ASSERT_EQ(create({sizeof(rh_context_options), RH_DEVICE_AUTO, "portable", 1, nullptr, nullptr}, context), RH_OK);
  EXPECT_STREQ(rh_context_isa(context.get()), "portable");
}

// Every name either gives its implementation or says that the processor lacks it.
TEST_F(ContextTest, EveryInstructionSet) {
  for (int i = 1; rh_isa_name(i); ++i) {
    Context context;
    const rh_status status = create({sizeof(rh_context_options), RH_DEVICE_AUTO, rh_isa_name(i), 1, nullptr, nullptr}, context);
    if (status == RH_OK) {
      EXPECT_STREQ(rh_context_isa(context.get()), rh_isa_name(i));
    } else {
      EXPECT_EQ(status, RH_UNSUPPORTED);
      expect_message({rh_isa_name(i), "needs", "processor"});
    }
  }
}

TEST_F(ContextTest, KernelList) {
  for (const char* isa : {"auto", "portable", "reference"}) {
    const Context context = make_context(1, isa);
    const int count = rh_context_kernel_count(context.get());
    std::map<std::string, std::vector<std::string>> implementations, chosen;
    for (int i = 0; i < count; ++i) {
      rh_kernel_info info = {sizeof info, nullptr, nullptr, -1, nullptr};
      ASSERT_EQ(rh_context_kernel(context.get(), i, &info), RH_OK);
      implementations[info.operation].push_back(info.implementation);
      if (info.chosen) chosen[info.operation].push_back(info.implementation);
      EXPECT_STRNE(info.reason, "");
    }
    std::vector<std::string> names;
    for (int i = 1; rh_isa_name(i); ++i) names.push_back(rh_isa_name(i));
    for (const char* operation : {"forward", "pair_loss", "backward", "linear_step", "sum_of_squares", "adamw"}) {
      EXPECT_EQ(implementations[operation], names) << operation;
      EXPECT_EQ(chosen[operation], std::vector<std::string>{rh_context_isa(context.get())}) << operation;
    }
    rh_kernel_info info = {sizeof info, nullptr, nullptr, 0, nullptr};
    EXPECT_EQ(rh_context_kernel(context.get(), count, &info), RH_INVALID_ARGUMENT);
    expect_message({"index is " + std::to_string(count), "0 to " + std::to_string(count - 1)});
    EXPECT_EQ(rh_context_kernel(context.get(), -1, &info), RH_INVALID_ARGUMENT);
    EXPECT_EQ(rh_context_kernel(context.get(), 0, nullptr), RH_INVALID_ARGUMENT);
    EXPECT_EQ(rh_context_kernel(nullptr, 0, &info), RH_INVALID_ARGUMENT);
    info.struct_size = 0;
    EXPECT_EQ(rh_context_kernel(context.get(), 0, &info), RH_INVALID_ARGUMENT);
  }
}

// Each thread reads the message of its own last failure.
TEST_F(ContextTest, MessagesBelongToTheirThread) {
  Context context;
  EXPECT_EQ(create({sizeof(rh_context_options), RH_DEVICE_AUTO, "first", 1, nullptr, nullptr}, context), RH_INVALID_ARGUMENT);
  std::thread([] {
    EXPECT_STREQ(rh_last_error_message(), "");
    rh_context* created = nullptr;
    const rh_context_options options = {sizeof options, RH_DEVICE_AUTO, "second", 1, nullptr, nullptr};
    EXPECT_EQ(rh_context_create(&options, &created), RH_INVALID_ARGUMENT);
    expect_message({"second"});
  }).join();
  expect_message({"first"});
}

}  // namespace
}  // namespace rewardhead::runtime::testing

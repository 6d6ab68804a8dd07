// SPDX-License-Identifier: Apache-2.0
//
// Written by tests/tools/make_torch_figures.py with PyTorch 2.13.0+cpu on x86_64, AMD EPYC,
// AVX512, one thread. The generator is Knuth's MMIX linear congruential one; a
// draw is its 24 high bits / 2^23 - 1.
// clang-format off
#pragma once

#include <cstdint>

namespace rewardhead::kernels::testing::torch_figures {

// rows 6, input 5, hidden 4; X, W1, b1, w2, b2, margin, weight - 1, 2 label - 1 drawn in this order from
// seed 1; pairs (0, 1) (1, 2) (2, 0) (3, 0) (4, 5) (5, 1) (0, 4); normalizer 3.5; float64 throughout.
inline constexpr double kRewards[] = {0x1.c0e7f2bf33f49p-2, 0x1.7395d837e6b94p-1, 0x1.00f3b505a89bep-1, 0x1.5842480000000p-1, 0x1.4609cc3d4dd45p-1, 0x1.6aaf72e21f74ap-1};
inline constexpr double kLoss[] = {0x1.1f1ad61f14531p+0};
inline constexpr double kRewardGradient[] = {0x1.1373ac541775ap-3, 0x1.c77e5aa6cd58cp-4, -0x1.0247b03ab64a9p-2, 0x1.768a9de0099e9p-5, -0x1.d691ae00a5d40p-6, -0x1.573eae9ff3a0cp-7};
inline constexpr double kDx[] = {0x1.5d7fb8e57ec45p-6, -0x1.5de7e0def9267p-7, -0x1.351cadce575eap-5, 0x1.66c088918f746p-7, -0x1.9f2b7480052ddp-8, -0x1.3257264700b0ep-7, 0x1.8c75340a5a9d1p-8, -0x1.fa8e0a5993a2cp-8, 0x1.0ad2d98ad70cdp-9, 0x1.bd843ca744914p-10, -0x1.47b601db79b44p-5, 0x1.4817ab95de4a9p-6, 0x1.21d78163465b2p-4, -0x1.50632540947f3p-6, 0x1.8549b00b21aa5p-7, 0x0.0p+0, 0x0.0p+0, 0x0.0p+0, 0x0.0p+0, 0x0.0p+0, -0x1.2a88a7679c8f1p-8, 0x1.2ae19f26079c5p-9, 0x1.080948e6eaee0p-7, -0x1.3270097f84323p-9, 0x1.62a0d7d9a1fb9p-10, 0x1.cdb22b9ebf716p-11, -0x1.2ac1e9ab9b80bp-11, 0x1.7db9124f3471ap-11, -0x1.92238de47e9dbp-13, -0x1.4fb9fbee82749p-13};
inline constexpr double kDw1[] = {-0x1.2d339e03f0c62p-10, 0x1.011c4d706c803p-9, -0x1.156ee15942473p-6, 0x1.a23500af69042p-7, -0x1.ddc5a5e25cbf4p-7, 0x0.0p+0, 0x0.0p+0, 0x0.0p+0, 0x0.0p+0, 0x0.0p+0, 0x1.8706701ae78c4p-5, 0x1.968fb12ea483ap-7, 0x1.f4b1511e733d0p-6, -0x1.fbf14ec8c4d90p-7, -0x1.fc3c671f1b6a3p-5, 0x0.0p+0, 0x0.0p+0, 0x0.0p+0, 0x0.0p+0, 0x0.0p+0};
inline constexpr double kDb1[] = {0x1.400010c7d5558p-6, 0x0.0p+0, 0x1.59b3422c757d7p-5, 0x0.0p+0};
inline constexpr double kDw2[] = {0x1.d5a8467213d1dp-6, 0x0.0p+0, -0x1.651438d1fed68p-5, 0x0.0p+0};
inline constexpr double kDb2[] = {-0x1.8000000000000p-56};

// Step 3 of torch.optim.AdamW on 8 elements: parameter, gradient, 8 first moment, 64 second moment - 1 drawn
// in this order from seed 2; lr 0.25, betas 0.9 and 0.99, eps 1e-3, weight decay 0.125; float64 throughout.
inline constexpr double kAdamwParameter[] = {0x1.509d75d6addf9p-1, 0x1.92151ecfec6cap-1, 0x1.c729fe7574d74p-2, -0x1.b233c9929351cp-2, -0x1.e2d7b9a298d73p-2, 0x1.17cffdf906cc8p-7, -0x1.ab5fb62a298aep-1, 0x1.8b49190db39ecp-1};
inline constexpr double kAdamwFirst[] = {-0x1.8fc785fffffffp-4, 0x1.0181dfffffffap-6, -0x1.1304ecccccccfp-5, 0x1.3912be0000000p-3, -0x1.90fd9a0000000p-4, -0x1.da0ce0ccccccdp-5, -0x1.7974e8ccccccdp-5, -0x1.1e9dfc6666666p-3};
inline constexpr double kAdamwSecond[] = {0x1.9e45862bc3d73p-7, 0x1.86cb17a2ae94cp-7, 0x1.5663758da2480p-8, 0x1.721f0ef5f1000p-6, 0x1.b100c75c3d5ebp-6, 0x1.645a253f9a3d7p-8, 0x1.1da9ead48f5c3p-7, 0x1.19c1ba3369c7cp-7};

// What PyTorch's float32 differs from its float64 on the same data: norm of the difference / norm of the float64
// result. X, W1, b1, w2, b2 and dr drawn in this order; hidden 0 is the linear head, without b1, w2 and b2.
struct Errors {
  uint64_t seed;
  int64_t rows, input, hidden;
  struct {
    double rewards, dw1, db1, dw2, dx;
  } error;
};
inline constexpr Errors kErrors[] = {
    {11, 1052, 384, 256, {2.846e-07, 1.822e-07, 1.257e-07, 4.958e-07, 1.552e-07}},
    {12, 300, 1024, 64, {2.434e-07, 1.598e-07, 1.925e-07, 3.734e-07, 1.032e-07}},
    {13, 64, 768, 512, {3.514e-07, 1.083e-07, 8.314e-08, 3.321e-07, 1.763e-07}},
    {14, 3000, 32, 16, {1.059e-07, 2.076e-07, 8.137e-08, 1.393e-06, 5.735e-08}},
    {15, 64, 4096, 32, {3.483e-07, 9.976e-08, 4.153e-08, 2.107e-07, 7.003e-08}},
    {16, 1052, 384, 0, {1.854e-07, 5.459e-07, 0, 0, 2.477e-08}},
    {17, 8000, 40, 0, {7.659e-08, 1.531e-06, 0, 0, 2.563e-08}},
    {18, 50, 4096, 0, {6.333e-07, 1.385e-07, 0, 0, 2.470e-08}},
};

}  // namespace rewardhead::kernels::testing::torch_figures

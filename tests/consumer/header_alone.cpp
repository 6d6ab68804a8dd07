// SPDX-License-Identifier: Apache-2.0
#include <rewardhead/rewardhead.hpp>  // needs no other header before it, and may be included by several files

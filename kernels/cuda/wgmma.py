#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes wgmma.h, which is committed: `python3 kernels/cuda/wgmma.py > kernels/cuda/wgmma.h`.

One wrapper for each shape and source of A. An instruction names up to 133 operands; nobody should type them.
"""

import textwrap

HEAD = """\
// SPDX-License-Identifier: Apache-2.0
//
// Written by wgmma.py. The wrappers of wgmma.mma_async, one for each shape and source of A: `ss` takes both operands
// from shared memory by descriptor, `rs` takes A from registers. kTrans: 0 K-major, 1 MN-major. Included by
// ptx_sm90.h only.
#pragma once

namespace ptx {
"""


def wrapped(text, indent):
    return textwrap.fill(text, 120, initial_indent=indent, subsequent_indent=indent, break_long_words=False)


def quoted(text, indent):
    lines = textwrap.wrap(text, 120 - len(indent) - 3)
    return "\n".join(f'{indent}"{line} "' for line in lines)


def instruction(n, rs, kind):
    count = n // 2
    accumulators = ", ".join(f"%{i}" for i in range(count))
    outputs = ", ".join(f'"+f"(d[{i}])' for i in range(count))
    if rs:
        a = ", ".join(f"%{count + i}" for i in range(4))
        operands = f"{{{a}}}, %{count + 4}, 1, 1, 1, %{count + 5};"
        inputs = '"r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(desc_b), "n"(kTransB)'
    else:
        operands = f"%{count}, %{count + 1}, 1, 1, 1, %{count + 2}, %{count + 3};"
        inputs = '"l"(desc_a), "l"(desc_b), "n"(kTransA), "n"(kTransB)'
    return f"""\
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n{n}k16.f32.{kind}.{kind} "
{quoted(f"{{{accumulators}}}, {operands}", " " * 8)}
{wrapped(": " + outputs, " " * 8)}
        : {inputs});"""


def wrapper(n, rs):
    parameters = "Input kInput, int kTransB" if rs else "Input kInput, int kTransA, int kTransB"
    a = "const uint32_t (&a)[4]" if rs else "uint64_t desc_a"
    return f"""
template <{parameters}>
RH_DEVICE void wgmma_m64n{n}k16_{"rs" if rs else "ss"}(float (&d)[{n // 2}], {a}, uint64_t desc_b) {{
  if constexpr (kInput == Input::bf16) {{
{instruction(n, rs, "bf16")}
  }} else {{
{instruction(n, rs, "f16")}
  }}
}}
"""


print(HEAD + "".join(wrapper(n, rs) for n in (64, 128, 256) for rs in (False, True)) + "\n}  // namespace ptx")

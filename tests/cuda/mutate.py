#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks one line of a kernel at a time and checks that the tests on the software device notice.

usage: mutate.py --build build/release [--only WORDS] [--every N --offset K | --sample N]

Needs the built targets cuda_tests and cuda_runtime_tests. A mutant is caught if a test fails, the software device
reports a hazard, or nothing comes to an end; it must compile. --every N --offset K runs each N-th, from the K-th on;
--sample N runs N, others for another REWARDHEAD_TURN in the environment (a number; 0 without). Exit status 1: some were
not caught.
"""
import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
F80, M80, F90, M90 = "sm80/forward.h", "sm80/masked_gemm.h", "sm90/forward.h", "sm90/masked_gemm.h"
COMPOSED = "composed.cu"
# name, file, what is replaced (must occur once), by what
MUTANTS = [
    ("wait for one group of copies less", F80, "cp_async_wait<T::kStages - 2>", "cp_async_wait<T::kStages - 1>"),
    ("no barrier after the copies' wait", F80, "ptx::syncthreads();  // this", "// this"),
    ("tail of W1's rows not filled with zeros", F80, "unit0 + copy_row + 32 * i < units ? bytes : 0", "16"),
    ("tail of columns copied whole", F80, "left > 0 ? 2 * left : 0", "left > 0 ? 16 : 0"),
    ("ldmatrix of W1 without the step in k", F80, "swizzle64(b_row + 16 * j, b_chunk + 2 * k)",
     "swizzle64(b_row + 16 * j, b_chunk)"),
    ("copies are not swizzled", F80, "shared + swizzle64(thread / 4, thread % 4)", "shared + thread / 4 * 64 + thread % 4 * 16"),
    ("a pass takes the wrong plane of W1", F80, "p.passes.pass[pass].b * p.w1_plane", "p.passes.pass[pass].a * p.w1_plane"),
    ("splits overlap by a step", F80, "p.splits) - begin;", "p.splits) - begin + (split + 1 < p.splits);"),
    ("mask z >= 0", "head_epilogue.h", "!(sum <= 0.0f)", "!(sum < 0.0f)"),
    ("NaN is inactive", "head_epilogue.h", "!(sum <= 0.0f)", "sum > 0.0f"),
    ("bias left out", "head_epilogue.h", "z[i][j][2 * half + c] + bias", "z[i][j][2 * half + c]"),
    ("member's bias of member 0", "head_epilogue.h", "p.b1 + member * p.hidden + unit", "p.b1 + unit"),
    ("rows of partial rewards unguarded", "head_epilogue.h", "if (q == 0 && own < p.rows)", "if (q == 0)"),
    ("quad sum without its second step", "head_epilogue.h", "sum += ptx::shfl_xor(sum, 2);", ""),
    ("partial reward of a block left out", "mlp_forward.cu", "block < p.blocks; ++block) sum",
     "block < p.blocks - (p.blocks > 1); ++block) sum"),
    ("parts of z not all added", "mlp_forward.cu", "split < p.splits; ++split", "split < p.splits - 1; ++split"),
    ("lower plane left out", "elements.h", "fabsf(plane) <= 0x1.fffffep127f ? value - plane", "false ? value - plane"),
    ("padding of a vector not zero", "planes.cu", "k + 1 < p.count ? scale * ptx::ldg32f(from + k + 1) : 0.0f",
     "scale * 1.0f"),
    ("ldmatrix without trans", M80, "ptx::ldmatrix_x4_trans", "ptx::ldmatrix_x4"),
    ("a stage copied a step late", M80, "copy_stage(member, step + T::kStages - 1);\n      ptx::cp_async_commit",
     "copy_stage(member, step + T::kStages - 2);\n      ptx::cp_async_commit"),
    ("a stage copied a step early", M80, "copy_stage(member, step + T::kStages - 1);\n      ptx::cp_async_commit",
     "copy_stage(member, step + T::kStages);\n      ptx::cp_async_commit"),
    ("parity of the row dropped", M80, "w0 = ptx::lds32(word) >> (g % 2);", "w0 = ptx::lds32(word);"),
    ("lower plane of v dropped", M80, "ptx::lds32(v + v_plane * T::kVBytes + k * 32);", "ptx::lds32(v + k * 32);"),
    ("v of the first member for all", M80, "exists ? unit_block / p.output.member_blocks : member", "member"),
    ("g also of lower planes of B", M80, "if (sums_v && b_plane == 0)", "if (sums_v)"),
    ("fragment registers 1 and 2 swapped", "mask.h", "(kRowsAreUnits ? x2 : x1) & v_low", "(kRowsAreUnits ? x1 : x2) & v_low"),
    ("padded units are stored", "masked_epilogue.h", "own < p.hidden)", "true)"),
    ("last column's pair stored whole", "masked_epilogue.h", "p.vectors && second && !adds", "p.vectors && !adds"),
    ("dX of the last member only", "masked_epilogue.h", "!kRowsAreUnits && member > 0;", "false;"),
    ("dX by dr of the first member", "masked_epilogue.h", "p.row_scale + int64_t{member} * p.rows + row",
     "p.row_scale + row"),
    ("dX: stages of the member before overwritten", M80, "if (member > 0) ptx::syncthreads();", ""),
    ("dX: W1 of the first member", M80, "(int64_t{member} * p.k + row) * p.b_stride", "row * p.b_stride"),
    ("dX: bits of the first member", M90, "mask_block((first_k + k0) / 64", "mask_block(k0 / 64"),
    ("dX: w2 of the first member", M90, "v_member[kVBlocks] = {member};", "v_member[kVBlocks] = {};"),
    ("dw2 without b1 g", "mlp_backward.cu", "fmaf(ptx::ldg32f(p.b1 + index), g, unscale * dot)", "unscale * dot"),
    ("slot released before it is read", F90, "ptx::wgmma_wait<1>();  // the stage", "// the stage"),
    ("no last wait for wgmma", F90, "ptx::wgmma_wait<0>();", ""),
    ("no fence before wgmma", F90, "ptx::wgmma_fence();", ""),
    ("copies wait for the wrong parity", F90, "ring.phase ^ 1", "ring.phase"),
    ("more bytes expected than come", F90, "mbar_expect_tx(bar, T::kStageBytes)", "mbar_expect_tx(bar, T::kStageBytes + 16)"),
    ("fewer bytes expected than come", F90, "mbar_expect_tx(bar, T::kStageBytes)", "mbar_expect_tx(bar, T::kStageBytes - 16384)"),
    ("empty barrier without the peer", F90, "mbar_init(empty + 8 * s, 2 * T::kCluster)", "mbar_init(empty + 8 * s, 2)"),
    ("stride of 512 in the descriptor", F90, "smem_desc_sw128(stage + T::kXBytes, 16, 1024)",
     "smem_desc_sw128(stage + T::kXBytes, 16, 512)"),
    ("k step of 64 bytes in the descriptor", F90, "w1 + 2 * k", "w1 + 4 * k"),
    ("halves of W1 not offset by rank", F90, "rank * (T::kW1Bytes / 2)", "0"),
    ("a block leaves before its peer", F90, "ptx::cluster_sync();  // no block", "// no block"),
    ("B taken as K-major", M90, "wgmma_m64n128k16_rs<kInput, 1>", "wgmma_m64n128k16_rs<kInput, 0>"),
    ("leading distance wrong", M90, "T::kBBytes / 2, 1024)", "1024, 1024)"),
    ("fragments made anew while wgmma reads them", M90, "ptx::wgmma_wait<1>();", "ptx::wgmma_wait<2>();"),
    ("lower plane of v dropped on sm_90a", M90, "from = v + v_plane * T::kVBytes + k16 * 32;",
     "from = v + k16 * 32;"),
    ("slot released one group early", M90, "if (group == 1 && v_plane", "if (group == 0 && v_plane"),
    ("bits of another part of the rows", M90, "m * 4 + part) * 128", "m * 4 + (part ^ 1)) * 128"),
    ("last slot kept", M90, "if (end > begin && lane == 0) ptx::mbar_arrive(empty + 8 * previous);", ""),
    ("ring begins anew with each tile", M90, "      uint32_t previous = 0;", "      uint32_t previous = 0; ring = {};"),
    ("one arrival a warpgroup", M90, "ptx::mbar_init(empty + 8 * s, 8);", "ptx::mbar_init(empty + 8 * s, 2);",
     "&& lane == 0", "&& thread % 128 == 0"),
    ("no barrier before the slopes", "linear.cu", "    ptx::syncthreads();\n    if (static_cast<int>(2 * thread) < group) {",
     "    if (static_cast<int>(2 * thread) < group) {"),
    ("group copied while it is read", "linear.cu", "ptx::syncthreads();  // the group", "// the group"),
    ("slopes beyond the last pair", "linear.cu", "if (pair < p.pairs.pairs) {", "{"),
    ("w of the first member for all", "linear.cu", "p.w + member * p.input;", "p.w;"),
    ("dr of the first member for all, linear", "linear.cu", "p.reward_gradient + member * p.rows + row",
     "p.reward_gradient + row"),
    ("chunks of the first member for all", "linear.cu", "p.sums + member * p.chunks * p.input + k;", "p.sums + k;"),
    ("chunks' slices not all added", "linear.cu", "other < kSlices; ++other", "other < kSlices - 1; ++other"),
    ("clipped norm without its first block", "adamw.cu", "block = ptx::thread_index(); block < p.square_blocks",
     "block = ptx::thread_index() + 1; block < p.square_blocks"),
    ("tail of squares", "adamw.cu", "if (k + 2 < end) g.z", "if (k + 3 < end) g.z"),
    ("moment without its bias correction", "adamw.cu", "s.learning_rate / bias1", "s.learning_rate"),
    ("rejected gets the chosen's sign", "pair_loss.cu", "0.0f - slope);", "0.0f + slope);"),
    ("entries added as they were filled", "pair_loss.cu", "p.ranked + begin + rank, entry",
     "p.ranked + begin + i, entry"),
    ("bad pairs counted", "pair_loss.cu", "ptx::atomic_or(p.bad_pairs, 1);\n      continue;",
     "ptx::atomic_or(p.bad_pairs, 1);"),
    ("weights of the first member for all", "pair_slope.h", "a.weight + member * a.pairs + p", "a.weight + p"),
    ("slopes of the first member for all", "pair_loss.cu", "p.slopes + member * a.pairs + entry / 2",
     "p.slopes + entry / 2"),
    ("each member counts the entries", "pair_loss.cu", "    if (part.member > 0) continue;\n", ""),
    ("loss of the first member only", "pair_loss.cu", "p.blocks > 1 && member < a.members;",
     "p.blocks > 1 && member < 1;"),
    ("segments overlap", "pair_loss.cu", "if (warp < thread / 32) before += total;", ""),
    ("rows in no pair not written", "pair_loss.cu", "      ptx::stg32f(a.reward_gradient + row0 + row, 0.0f);", ""),
    ("products of planes not accumulated", COMPOSED, "beta = i > 0 ? 1.0f : 0.0f;", "beta = 0.0f;"),
    ("product added to what lies there", COMPOSED, "beta = i > 0 ? 1.0f : 0.0f;", "beta = 1.0f;"),
    ("leading dimension of Z is that of W1's units", COMPOSED, "u.units, plan.input, z, u.z_stride}",
     "u.units, plan.input, z, u.units}"),
    ("leading dimension of dX is its columns", COMPOSED, "ComposedUnits(plan).units, out, out_stride}",
     "ComposedUnits(plan).units, out, plan.input}"),
    ("planes of dH as far apart as the plan's rows", COMPOSED, "rows * u.stride, plan.planes}",
     "plan.rows * u.stride, plan.planes}"),
    ("dH not transposed", COMPOSED, "{{dh, true}, {x, false}", "{{dh, false}, {x, false}"),
    ("algorithm for aligned outputs for any", COMPOSED, "is_aligned(dx.out, dx.out_stride) ? 0 : 1", "0"),
    ("composed rewards without ReLU", COMPOSED, "z <= 0.0f ? 0.0f : z,", "z,"),
    ("composed rewards hide a NaN", COMPOSED, "z <= 0.0f ? 0.0f : z,", "z > 0.0f ? z : 0.0f,"),
    ("composed mask z >= 0", COMPOSED, "if (z <= 0.0f) continue;", "if (z < 0.0f) continue;"),
    ("composed mask without b1", COMPOSED, "unit + i) + bias[i]", "unit + i)"),
    ("dr of the first member for all", COMPOSED, "own / p.u.hidden * p.u.rows", "0"),
    ("sums of the last warp left out", COMPOSED, "w < kWarps; ++w", "w < kWarps - 1; ++w"),
    ("sums of the last chunk left out", COMPOSED, "chunk < p.chunks; ++chunk",
     "chunk < p.chunks - (p.chunks > 1); ++chunk"),
    ("sums read before they are all written", COMPOSED, "  ptx::syncthreads();\n  if (warp", "  if (warp"),
]
COMPILED = {"sm80/": ["sm80/products.cu"], "sm90/": ["sm90/products.cu"], "mask": ["sm80/products.cu", "sm90/products.cu"],
            "head_epilogue.h": ["sm80/products.cu", "sm90/products.cu", "mlp_forward.cu"], "elements.h": ["planes.cu"],
            "pair_slope.h": ["pair_loss.cu", "linear.cu"]}
FLAGS = ["-xc++", "-std=c++20", "-O1", "-ffp-contract=off", "-DREWARDHEAD_SIMT=1", "-w", "-Wno-psabi"]


def check_all():
    for name, file, old, *_ in MUTANTS:
        found = (ROOT / "kernels" / "cuda" / file).read_text().count(old)
        if found != 1:
            sys.exit(f"mutate.py: {file} has {found} times, expected once, '{old}', which '{name}' replaces")


def tests_of(file):
    """A filter, and the objects that make the program, as patterns."""
    kernels = "tests/cuda/**/rewardhead_kernels_simt.dir/**/*.o"
    if file == COMPOSED:  # its products are cuBLASLt's, which the runtime opens
        return "CudaExact.*", [kernels, "tests/host/cuda/**/cuda_runtime_tests.dir/**/*.o",
                               "tests/host/cuda/**/rewardhead_on_simt.dir/**/*.o",
                               "tests/simt/**/rewardhead_simt_cublaslt.dir/**/*.o", "kernels/**/*.cpp.o"]
    objects = [kernels, "tests/cuda/**/cuda_tests.dir/**/*.o"]
    for prefix, tests in (("linear", "*Linear*"), ("adamw", "*Adamw*"), ("pair", "*PairLoss*")):
        if file.startswith(prefix):
            return tests, objects
    return "*Mlp*", objects


def catch(mutant, build, scratch):
    """How the mutant was caught, or None."""
    name, file, old, new, *more = mutant
    overlay = scratch / "kernels" / "cuda"
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(ROOT / "kernels" / "cuda", overlay)
    text = (overlay / file).read_text()
    text = text.replace(old, new)
    if more:
        text = text.replace(*more)
    (overlay / file).write_text(text)
    sources = next((found for prefix, found in COMPILED.items() if file.startswith(prefix)), [file])
    tests, patterns = tests_of(file)
    objects = {str(o).split(".dir/")[-1]: o for pattern in patterns for o in build.glob(pattern)}
    for source in sources:
        own = scratch / f"{source.replace('/', '_')}.o"
        subprocess.run(["c++", *FLAGS, f"-I{scratch}", f"-I{ROOT}/tests/simt/include", f"-I{ROOT}", "-c",
                        str(overlay / source), "-o", str(own)], check=True)
        objects[f"__/__/kernels/cuda/{source}.o"] = own
    program = scratch / "tests"
    subprocess.run(["c++", "-rdynamic", "-o", str(program), *map(str, objects.values()),
                    str(build / "tests" / "simt" / "librewardhead_simt.a"), "-lgtest", "-lpthread"], check=True)
    # Seconds of the processor: a machine that is busy is no bug.
    run = subprocess.run([str(program), f"--gtest_filter={tests}", "--gtest_fail_fast"], capture_output=True, text=True,
                         errors="replace", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (300, 300)))
    if run.returncode == 0:
        return None
    if run.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return "no end"
    hazard = [line for line in run.stderr.splitlines() if line.startswith("software device:")]
    return hazard[0][len("software device: "):].split(":")[0] if hazard else "wrong result"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--sample", type=int)
    arguments = parser.parse_args()
    if arguments.sample:
        arguments.every = len(MUTANTS) // arguments.sample
        arguments.offset = int(os.environ.get("REWARDHEAD_TURN", "0"))
    check_all()
    chosen = [m for m in MUTANTS if arguments.only in m[0]][arguments.offset % arguments.every::arguments.every]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        for mutant in chosen:
            how = catch(mutant, arguments.build, Path(folder) / "mutant")
            missed += how is None
            print(f"{'MISSED' if how is None else how:28} {mutant[1]:20} {mutant[0]}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} mutants caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
import unittest

import sass

# A loop with another one in it; the compiler has put the wait of the outer one, and code behind it, elsewhere.
LISTING = """
	.target	sm_90a
.text.kernel:
.L_x_0:
        /*0000*/                   MOV R1, 0x2 ;
.L_x_1:
        /*0010*/               @!P0 BRA `(.L_x_5) ;
.L_x_2:
        /*0020*/                   LDGSTS.E [R2], [R4.64] ;
.L_x_3:
        /*0030*/                   LDSM.16.M88.4 R4, [R5] ;
        /*0040*/                   HMMA.16816.F32 R8, R4, R6, R8 ;
        /*0050*/                @P1 BRA `(.L_x_3) ;
        /*0060*/                @P2 BRA `(.L_x_1) ;
.L_x_4:
        /*0070*/                   MEMBAR.ALL.GPU ;
        /*0080*/                   EXIT ;
.L_x_5:
        /*0090*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [R3], R2 ;
        /*00a0*/                   BRA `(.L_x_2) ;
.text.another:
        /*0000*/                   EXIT ;
"""


def loops(listing):
    """{kernel: [first words of a loop's instructions]}."""
    found = {}
    for name, instructions, labels in sass.kernels(listing):
        bodies = sass.main_loops(instructions, labels)
        found[name] = [[instructions[index].split()[0] for index in sorted(body)] for body in bodies]
    return found


class MainLoops(unittest.TestCase):
    def test_each_has_its_own_instructions_wherever_they_lie(self):
        found = loops(LISTING)
        self.assertEqual(found["another"], [])
        outer, inner = found["kernel"]
        self.assertEqual(inner, ["LDSM.16.M88.4", "HMMA.16816.F32", "@P1"])
        self.assertEqual(outer, ["@!P0", "LDGSTS.E", "@P2", "SYNCS.PHASECHK.TRANS64.TRYWAIT", "BRA"])

    def test_a_fence_counts_only_inside(self):
        self.assertNotIn("MEMBAR.ALL.GPU", sum(loops(LISTING)["kernel"], []))
        inside = LISTING.replace("LDSM.16.M88.4 R4, [R5]", "MEMBAR.ALL.GPU")
        self.assertIn("MEMBAR.ALL.GPU", loops(inside)["kernel"][1])

    def test_loops_that_neither_copy_nor_multiply_do_not_count(self):
        self.assertEqual(loops(LISTING.replace("HMMA", "FFMA").replace("LDGSTS", "LDG"))["kernel"], [])


if __name__ == "__main__":
    unittest.main()

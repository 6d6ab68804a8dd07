// SPDX-License-Identifier: Apache-2.0
#include "host/dataset/preferences.h"

#include "tests/host/dataset/files.h"

namespace rewardhead::dataset {
namespace {

using Rows = std::vector<int32_t>;
using Floats = std::vector<float>;

class PairsFile : public FileTest {
 protected:
  Preferences read(const std::string& contents, const PairColumns& columns = {}, const std::string& name = "pairs.csv",
                   int64_t rows = 5) const {
    return read_preferences(write(name, contents), columns, nullptr, rows);
  }
  std::string error(const std::string& contents, const PairColumns& columns = {}) const {
    return error_of([&] { read(contents, columns); });
  }
};

TEST_F(PairsFile, RowNumbersInTheOrderOfTheFile) {
  const Preferences pairs = read("chosen,rejected\n4,0\n1,2\n4,0\n");
  EXPECT_EQ(pairs.file, path("pairs.csv"));
  EXPECT_EQ(pairs.chosen, (Rows{4, 1, 4}));
  EXPECT_EQ(pairs.rejected, (Rows{0, 2, 0}));
  EXPECT_TRUE(pairs.margin.empty() && pairs.weight.empty() && pairs.label.empty());
}

TEST_F(PairsFile, OptionalColumnsByDefaultName) {
  const Preferences pairs =
      read("label,weight,margin,rejected,chosen\n0.75,2,-0.5,1,0\n1,0,1e-3,2,0\n", {}, "pairs.csv");
  EXPECT_EQ(pairs.margin, (Floats{-0.5f, 1e-3f}));
  EXPECT_EQ(pairs.weight, (Floats{2, 0}));
  EXPECT_EQ(pairs.label, (Floats{0.75f, 1}));
}

TEST_F(PairsFile, ColumnsByGivenName) {
  PairColumns columns{"winner", "loser", "m", "w", "p"};
  const Preferences pairs = read("winner\tloser\tp\tw\tm\tweight\n0\t1\t0.5\t3\t4\tx\n", columns, "pairs.tsv");
  EXPECT_EQ(pairs.chosen, Rows{0});
  EXPECT_EQ(pairs.margin, Floats{4});
  EXPECT_EQ(pairs.weight, Floats{3});
  EXPECT_EQ(pairs.label, Floats{0.5f});
}

TEST_F(PairsFile, JsonLines) {
  const Preferences pairs =
      read("{\"chosen\": 3, \"rejected\": \"1\", \"weight\": 0.5}\n{\"chosen\": 0, \"rejected\": 1, \"weight\": 2}\n",
           {}, "pairs.jsonl");
  EXPECT_EQ(pairs.chosen, (Rows{3, 0}));
  EXPECT_EQ(pairs.rejected, (Rows{1, 1}));
  EXPECT_EQ(pairs.weight, (Floats{0.5f, 2}));
}

// Ids that are all digits are ids still, and numbers in JSON compare as their text.
TEST_F(PairsFile, IdsAreLookedUpAsStrings) {
  const Items items = read_items(write("items.csv", "id\n2\n1\n0\n"), {}, 3);
  const Preferences csv = read_preferences(write("pairs.csv", "chosen,rejected\n2,0\n1,2\n"), {}, &items, 3);
  EXPECT_EQ(csv.chosen, (Rows{0, 1}));
  EXPECT_EQ(csv.rejected, (Rows{2, 0}));
  const Preferences json =
      read_preferences(write("pairs.jsonl", "{\"chosen\": 2, \"rejected\": \"0\"}"), {}, &items, 3);
  EXPECT_EQ(json.chosen, Rows{0});
  EXPECT_EQ(json.rejected, Rows{2});
  const std::filesystem::path unknown = write("pairs.csv", "chosen,rejected\n2,0\n1,00\n");
  EXPECT_EQ(error_of([&] { read_preferences(unknown, {}, &items, 3); }),
            "pairs.csv, line 3: column 'rejected' holds '00'; expected an id of items.csv");
}

TEST_F(PairsFile, ReadsTheSampleData) {
  const std::filesystem::path folder = SAMPLE_DATA;
  const Items items = read_items(folder / "items.csv", {}, 1052);
  const Preferences pairs = read_preferences(folder / "pairs.csv", {}, &items, 1052);
  EXPECT_EQ(pairs.size(), 11650);
  EXPECT_EQ(items.ids[static_cast<size_t>(pairs.chosen[1])], "arg219298");  // the file's third line
  EXPECT_EQ(items.ids[static_cast<size_t>(pairs.rejected[1])], "arg219200");
}

TEST_F(PairsFile, RefusesBadRowNumbers) {
  for (const std::string bad : {"5", "-1", "1.0", "99999999999999999999", "arg7", "5a", ""}) {
    const bool id = bad == "arg7" || bad == "5a" || bad.empty();
    const std::string expected = std::string("'; expected a row number from 0 to 4") + (id ? "; ids need --items" : "");
    EXPECT_EQ(error("chosen,rejected\n0,1\n0," + bad + "\n"),
              "pairs.csv, line 3: column 'rejected' holds '" + bad + expected);
    EXPECT_EQ(error("chosen,rejected\n" + bad + ",1\n"), "pairs.csv, line 2: column 'chosen' holds '" + bad + expected);
  }
}

TEST_F(PairsFile, RefusesAResponsePairedWithItself) {
  EXPECT_EQ(error("chosen,rejected\n0,1\n2,2\n"),
            "pairs.csv, line 3: pairs '2' with itself; expected two different responses");
}

TEST_F(PairsFile, RefusesBadWeightsMarginsAndLabels) {
  const auto with = [&](const std::string& column, const std::string& value) {
    return error("chosen,rejected," + column + "\n0,1," + value + "\n");
  };
  const auto message = [](const std::string& column, const std::string& value, const std::string& expected) {
    return "pairs.csv, line 2: column '" + column + "' holds '" + value + "'; expected " + expected;
  };
  for (const std::string column : {"weight", "margin", "label"}) {
    for (const std::string bad : {"nan", "inf", "", "x", "0x1"}) {
      EXPECT_EQ(with(column, bad), message(column, bad, "a finite decimal number"));
    }
  }
  for (const std::string column : {"weight", "margin"}) {
    EXPECT_EQ(with(column, "1e39"), message(column, "1e39", "a number within the range of fp32"));
  }
  EXPECT_EQ(with("weight", "-0.5"), message("weight", "-0.5", "a weight, 0 or more"));
  EXPECT_EQ(with("label", "1.01"), message("label", "1.01", "a probability from 0 to 1"));
  EXPECT_EQ(with("label", "-1e-300"), message("label", "-1e-300", "a probability from 0 to 1"));
}

TEST_F(PairsFile, RefusesWeightsThatAreAllZero) {
  EXPECT_EQ(error("chosen,rejected,weight\n0,1,0\n0,2,0.0\n"),
            "pairs.csv: the column 'weight' holds 0 in every line; expected at least one weight above 0");
}

TEST_F(PairsFile, RefusesMissingColumns) {
  EXPECT_EQ(error("chosen,loser\n0,1\n"),
            "pairs.csv, line 1: has no column 'rejected'; its columns are 'chosen', 'loser'");
  PairColumns named;
  named.weight = "weight";
  EXPECT_EQ(error("chosen,rejected\n0,1\n", named),
            "pairs.csv, line 1: has no column 'weight'; its columns are 'chosen', 'rejected'");
}

TEST_F(PairsFile, SelectTakesPairsInTheOrderAsked) {
  const Preferences pairs = read("chosen,rejected,weight\n0,1,1\n2,3,2\n4,0,3\n");
  const Preferences selected = select(pairs, {2, 0, 2});
  EXPECT_EQ(selected.file, pairs.file);
  EXPECT_EQ(selected.chosen, (Rows{4, 0, 4}));
  EXPECT_EQ(selected.rejected, (Rows{0, 1, 0}));
  EXPECT_EQ(selected.weight, (Floats{3, 1, 3}));
  EXPECT_TRUE(selected.margin.empty() && selected.label.empty());
}

TEST_F(PairsFile, DistinctRowsAreSortedAndUnique) {
  EXPECT_EQ(distinct_rows(read("chosen,rejected\n4,0\n1,4\n0,1\n")), (Rows{0, 1, 4}));
}

}  // namespace
}  // namespace rewardhead::dataset
